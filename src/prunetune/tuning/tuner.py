"""``tune``, the whole job: plan a ladder, climb it, keep the weights of the full network's winner."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunetune._utils.arguments import names_checked
from prunetune._utils.caller import given_back
from prunetune._utils.interrupts import interruptible
from prunetune._utils.malloc import freed_memory_kept
from prunetune.backends import Distribution, check_optimizer
from prunetune.backends.given import optimizer_name
from prunetune.backends.space import check_points
from prunetune.backends.study.claims import nobody
from prunetune.events import Notice, Observer, Warned
from prunetune.ladder.rung import Ladder
from prunetune.pruning.checks import check_unmasked
from prunetune.record.folder import RunFolder
from prunetune.tuning.asked import may_cut, settings_of
from prunetune.tuning.energy import Meter
from prunetune.tuning.executors import Executor, check_executor, submitted_workers
from prunetune.tuning.fingerprint import Resume, check_resume
from prunetune.tuning.problem import Problem
from prunetune.tuning.recovered import KEPT, LOST
from prunetune.tuning.result import TuneResult
from prunetune.tuning.run import TuningRun
from prunetune.tuning.settings import Pruning, Search
from prunetune.tuning.types import EvaluateFunction, GivenModelFunction, TrainFunction
from prunetune.tuning.watching import Watching

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs
    from prunetune.plugins.base import Batch, Loss


@names_checked(search=Search, pruning=Pruning)
@interruptible(signal.SIGINT)
@given_back()
def tune(
    model_fn: GivenModelFunction,
    train: TrainFunction,
    space: str | Mapping[str, Distribution] = "paper",
    *,
    example_inputs: ExampleInputs,
    epochs: int,
    run_dir: str | Path = "runs/tune",
    resume: Resume = "same",
    pruning: Pruning = Pruning(),  # noqa: B008  # frozen
    search: Search = Search(),  # noqa: B008  # frozen
    ladder: Ladder | str | None = None,
    budget: float | str | None = None,
    steps_per_epoch: int | None = None,
    first: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    evaluate: EvaluateFunction | None = None,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    energy: bool | None = None,
    country: str | None = None,
    workers: Executor | None = None,
    n_workers: int | None = None,
    observer: Observer | None = None,
) -> TuneResult:
    """Find the hyperparameters of a network by trainings of pruned copies, and train the full network with the best.

    Many configurations are trained briefly on a narrow network, the best of them again with more, and the last in full
    on the full network: a ladder, see ``prunetune.Ladder``. Its plan and cost are told before anything is trained.

    The same call continues a run that was stopped, and returns the result of one that is finished at once. A larger
    budget, or more trials, is added to what there is. With
    ``Search(storage=…)`` others can join the search, see ``prunetune.work``. Every training is seeded; the random
    generators of ``random``, ``numpy.random`` and ``torch`` are as before when this returns.

    Parameters
    ----------
    model_fn
        Builds the full network anew at each call. Every trial calls it; a proxy starts with the part of
        its weights that the cut keeps, rescaled, or adapted where they are pretrained (``Pruning.weights``). A
        ``model_fn(params)`` gets the trial's hyperparameters, for dropout, say; they must not change the shape of a
        weight.
    train
        ``train(model, params, report) -> score`` trains the model in place for ``report.epochs`` epochs. It should
        call ``report(score, epoch)`` after each, which may raise to end the trial. ``report.seed`` is the trial's;
        ``report.resolution`` and ``report.data`` are to be heeded where a rung asks for less than all.
    space
        The name of a search space ("paper", "paper-extra"), or names with their ``Float``, ``Int``, ``Categorical``.
    example_inputs
        What the model is called with: a tensor, a tuple of arguments, or a dict of keyword arguments.
    epochs
        Of a full training; ``report.epochs`` says how many a training on a lower rung has.
    ladder
        The rungs of the search, by name (``prunetune list ladders``) or as a ``Ladder``. None is "default", whose
        networks the planner chooses. Where ``pruning`` says how small the proxy is, or ``search`` how many are
        confirmed, None is "paper": all on this proxy, the best of them in full.
    budget
        What all trainings may cost, the winner's included: a number of full trainings, or time ("2h", "90m").
    steps_per_epoch
        Optimizer steps of an epoch, if you know: the default ladder leaves out rungs with too few of them.
    first
        Hyperparameters to begin with, ``[{"lr": 0.1}]``: what is known to be good. The optimizer chooses those that a
        point leaves out. When a run is continued, points that it has not had yet are added.
    evaluate
        ``evaluate(model) -> {"accuracy": 0.9}``, or a number, of the winner in evaluation mode, on data that chose
        nothing.
    data, loss
        For scorers that need them, see ``prunetune.prune``.
    pruning
        How proxies are cut, and which transfer rule corrects learning rates on them.
    search
        The direction of the score, the optimizer, the trial pruner and the storage.
    seed
        Everything random in the run follows from it.
    energy, country
        Whether to measure electricity and CO2; None is where codecarbon is installed. ``country`` ("KOR") is whose grid
        it is, see ``prunetune.tuning.energy.Meter``.
    workers, n_workers
        An executor, and how many workers it is to run: a process pool, dask's ``Client``, submitit's ``AutoExecutor``,
        ``prunetune.interop.ray.RayExecutor``, or whatever else has the ``submit`` of ``concurrent.futures``. They do
        all trainings, and this process looks on, as long as there are any; they reach the run folder, or the storage.
    run_dir
        The run folder; see ``RunFolder``.
    observer
        Hears of all that happens, see ``prunetune.events``; None is the view on the terminal, as the command line has
        it, and ``prunetune.silent`` shows nothing.
    resume
        A run only goes on ("same") with the network, the functions and the inputs that it was started with, as far as
        they can be compared; "anyway" goes on whatever has changed, and the record says what that was.

    Raises
    ------
    InputError
        An argument is impossible, the run folder cannot be used or belongs to a run with other settings, another
        network or another train function, or energy is to be measured without codecarbon.
    TraceError
        The model does not run on the example inputs.
    SearchError
        All trainings of a rung failed.

    Example
    -------
    Your own model and train function::

        def train(model, params, report):
            ...  # train for report.epochs epochs, call report(accuracy, epoch) after each
            return accuracy

        images, search = torch.zeros(64, 3, 32, 32), prunetune.Search(direction="maximize")
        result = prunetune.tune(MyNet, train, example_inputs=images, epochs=10, search=search, run_dir="runs/my")
    """
    problem = Problem.of(
        model_fn,
        train,
        space,
        example_inputs=example_inputs,
        epochs=epochs,
        direction=search.direction,
        seed=seed,
        evaluate=evaluate,
        data=data,
        loss=loss,
        steps=steps_per_epoch,
        write="search=prunetune.Search({})",
    )
    settings = settings_of(problem, pruning, search, ladder, budget)
    meter = Meter(energy, country)
    check_optimizer(optimizer_name(search.optimizer))
    check_resume(resume)
    crew = check_executor(workers, n_workers, search)
    points = check_points("first", first, problem.space)
    base, pretrained = problem.full_network()
    settings = settings.for_network(pretrained=bool(pretrained))
    lost = bool(pretrained) and may_cut(settings) and settings.pruning.weights in ("redraw", "reset")
    remarks = (LOST,) if lost else ()
    if settings.pruning.weights != "sliced":
        check_unmasked(base)
    goes_on = f"the run in {run_dir} was stopped; the same call continues it"
    with freed_memory_kept(), Watching(observer, goes_on) as watching, RunFolder(run_dir) as folder:
        if pretrained and settings.pruning.weights == "recovered" and may_cut(settings):
            watching(Notice(KEPT))
        for remark in remarks:
            watching(Warned(remark))

        def run(observer: Observer, others_train: Callable[[], bool] = nobody) -> TuneResult:
            return TuningRun(problem, settings, folder, observer, meter, points, remarks, others_train).go(base, resume)

        if workers is None:
            result = run(watching)
        else:
            with submitted_workers(workers, crew, model_fn, train, search, folder, resume, watching) as submitted:
                result = run(submitted, submitted.train)
    watching.sum_up("summary", result.run_dir)
    return result


__all__ = ["Pruning", "Search", "TrainFunction", "TuneResult", "tune"]
