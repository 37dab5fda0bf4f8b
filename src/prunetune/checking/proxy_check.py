"""``check``: is this proxy good enough to search on? Measured on a few configurations, before the budget is spent."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from prunetune._utils.arguments import names_checked
from prunetune._utils.caller import given_back
from prunetune._utils.checks import whole_number
from prunetune._utils.hashes import digest
from prunetune._utils.interrupts import interruptible
from prunetune._utils.malloc import freed_memory_kept
from prunetune.backends import Distribution
from prunetune.backends.study.attributes import CONFIGURATION
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import open_study, outcome
from prunetune.checking.verdict import Verdict, too_few, verdict
from prunetune.errors import InputError, SearchError
from prunetune.events import Notice, Observer, Phase, Warned
from prunetune.ladder.named import PROXY
from prunetune.ladder.planner import MIDDLE
from prunetune.ladder.rung import SHARES, Rung, check_one
from prunetune.record import provenance
from prunetune.record.folder import FORMAT, RunFolder
from prunetune.record.provenance import Record
from prunetune.stats.ranks import RankCorrelation, spearman
from prunetune.tuning import parts
from prunetune.tuning.asked import sizes
from prunetune.tuning.configurations import draw_configurations, queue, tried
from prunetune.tuning.fingerprint import Resume, check_resume, continued, sentences
from prunetune.tuning.objective import Objective, unread_notes
from prunetune.tuning.plans import kept_plans
from prunetune.tuning.problem import Problem
from prunetune.tuning.recovered import KEPT, LOST, kept_recovered
from prunetune.tuning.resolution import check_resolution
from prunetune.tuning.settings import Pruning, Search, Settings, at_width
from prunetune.tuning.transfer_notes import transfer_note
from prunetune.tuning.types import GivenModelFunction, TrainFunction
from prunetune.tuning.watching import Watching

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.study.study import StudySettings
    from prunetune.engine import ExampleInputs
    from prunetune.plugins.base import Batch, Loss

CONFIGURATIONS: Final = 8
FEWEST: Final = 4
"""Fewer have no interval."""
SHORT: Final = 8
"""The share of the epochs that a check trains for, as a divisor."""
FULL_NETWORKS: Final = ("base", "again")
NETWORKS: Final[dict[str, Phase]] = {"proxy": "check-proxy", "base": "check-base", "again": "check-again"}
"""What is trained, and the phase (and study) that it is trained in."""


@dataclass(frozen=True)
class CheckResult:
    """What a check measured, and what follows."""

    run_dir: Path
    verdict: Verdict
    correlation: RankCorrelation | None
    """Of the proxy's scores with the full network's; None for fewer than three, or where all are equal."""
    ceiling: RankCorrelation | None
    """Of the full network's scores with its own from another seed: no proxy can do better."""
    cost_ratio: float | None
    """Seconds of a training of the full network over those of a trial on the proxy."""
    record: Record = field(repr=False)
    """All of ``check.json``."""


@names_checked(search=Search, pruning=Pruning)
@interruptible(signal.SIGINT)
@given_back()
def check(
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
    rung: Rung | None = None,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    observer: Observer | None = None,
    configurations: int = CONFIGURATIONS,
    check_epochs: int | None = None,
) -> CheckResult:
    """Whether the proxy ranks hyperparameters as the full network does: a verdict, and what it is based on.

    Trains the proxy as a trial would, the full network, and the full network again with another seed, on the same few
    configurations, drawn from the space as a Sobol sequence. The run folder keeps what was measured. Nothing is trained
    twice: neither after a stop, nor for more configurations. With another ``pruning`` or ``rung`` in the same folder
    only the proxy is trained anew.

    Parameters
    ----------
    model_fn, train, space, example_inputs, epochs, run_dir, resume, pruning, search, seed, data, loss, observer
        As for ``prunetune.tune``.
    rung
        What is checked: a share of the width (or None, as narrow a proxy as ``pruning`` says), with a share of the
        epochs, the resolution and the data. By default the network of the search's ladder: a quarter of the width, or
        the proxy where ``pruning`` says how small it is.
    configurations
        How many, at least 4. With 8, only a proxy whose rank correlation comes out near 0.9 is recognised as good.
    check_epochs
        How long the full network is trained, at most ``epochs``; by default an eighth of them, at least 2.

    Raises
    ------
    InputError
        An argument is impossible, or the run folder cannot be used.
    TraceError
        The model does not run on the example inputs.
    SearchError
        Every training failed.

    Example
    -------
    Before ``tune``, with its arguments::

        search = prunetune.Search(direction="maximize")
        found = prunetune.check(MyNet, train, space, example_inputs=images, epochs=40, search=search)
        print(found.verdict.sentence)
    """
    problem = Problem.of(
        model_fn,
        train,
        space,
        example_inputs=example_inputs,
        epochs=epochs,
        direction=search.direction,
        seed=seed,
        data=data,
        loss=loss,
        write="search=prunetune.Search({})",
    )
    if rung is None:
        rung = PROXY if sizes(pruning) or search.confirm is not None else Rung(width=MIDDLE)
    check_one("rung", rung)
    cut = at_width(pruning, rung.width)
    settings = Settings(problem.space, problem.epochs, cut, search, problem.seed)
    settings.study()  # raises InputError for unknown names
    wanted = whole_number("configurations", configurations, minimum=FEWEST)
    short = _check_epochs(check_epochs, problem.epochs)
    check_resume(resume)
    base, pretrained = problem.full_network()
    settings = settings.for_network(pretrained=bool(pretrained))
    check_resolution(base, example_inputs, rung.resolution)
    goes_on = f"the check in {run_dir} was stopped; the same call continues it"
    with freed_memory_kept(), Watching(observer, goes_on) as watching, RunFolder(run_dir) as folder:
        if pretrained:
            watching(Notice(KEPT) if settings.pruning.weights == "recovered" else Warned(LOST))
        anyway = sentences(continued(folder, problem.fingerprint(base), resume=resume, observer=watching))
        result = _Check(problem, settings, rung, folder, short, wanted, watching, anyway).go()
    watching.sum_up("check", result.run_dir)
    return result


def _check_epochs(asked: int | None, epochs: int) -> int:
    """How long the full network is trained, where a whole training has so many ``epochs``."""
    if asked is None:
        return min(epochs, max(2, math.ceil(epochs / SHORT)))
    short = whole_number("check_epochs", asked, minimum=1)
    if short > epochs:
        raise InputError(f"check_epochs is {short}, but a trial has {epochs} epochs; check for fewer")
    return short


class _Check:
    """One check from start or restart to end."""

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        rung: Rung,
        folder: RunFolder,
        epochs: int,
        wanted: int,
        observer: Observer,
        anyway: Sequence[str],
    ) -> None:
        self.problem = problem
        self.settings = settings
        self.rung = rung
        self.folder = folder
        self.wanted = wanted
        self.observer = observer
        self.anyway = anyway
        self.epochs = epochs
        self.points = draw_configurations(settings.space, wanted, settings.seed)
        if len(self.points) < FEWEST:
            raise InputError(
                f"the search space has {len(self.points)} configurations in all, and a check takes {FEWEST}; train "
                "them on the full network"
            )

    def go(self) -> CheckResult:
        model_fn, train = self.problem.model_fn, self.problem.train
        asked, full = self.settings, self._trained(self.epochs)
        if few := too_few(len(self.points)):
            self.observer(Notice(few))
        rung, shares = self.rung, {axis: getattr(self.rung, axis) for axis in SHARES}
        of = {**{axis: shares[axis] for axis in ("resolution", "epochs", "data")}, "cost": None}  # as it always was
        key = _digest({**full.fingerprint(), "pruning": asked.pruning.to_record(), "of": of})
        with ExitStack() as stack:
            open_in = partial(self._study, stack)
            studies = {name: open_in(f"{NETWORKS[name]}-{_digest(full.fingerprint())}", full) for name in FULL_NETWORKS}
            plans = kept_plans(studies["base"], lambda: self.problem.plans(asked.pruning), model_fn, of=key)
            settings = dict.fromkeys(FULL_NETWORKS, full)
            settings["proxy"] = self._trained(rung.of_epochs(self.epochs))
            studies["proxy"] = open_in(f"{NETWORKS['proxy']}-{key}", settings["proxy"])
            pruning = asked.pruning
            objectives = {
                "proxy": Objective.on_proxy(
                    model_fn,
                    train,
                    plans,
                    pruning.begins,
                    pruning.transfer,
                    pruning.optimizers,
                    recovered=kept_recovered(self.folder.path, self.problem, plans, pruning, self.observer),
                    resolution=rung.resolution,
                    data=rung.data,
                    observer=self.observer,
                ),
                "base": Objective(model_fn, train),
                "again": Objective(model_fn, train),
            }
            for name, phase in NETWORKS.items():
                self._train(studies[name], objectives[name], settings[name], phase)
            trials = {name: self._by_place(study) for name, study in studies.items()}
            unread = unread_notes(studies["proxy"])
            found = (transfer_note(studies["proxy"], pruning.transfer), *unread, *self.anyway)
            notes = [note for note in found if note]
        known = {
            "proxy_epochs": settings["proxy"].epochs,
            "rung": {"width": rung.width, **shares},
            "plan_sha256": digest(plans.to_json()),
            "notes": notes,
        }
        result = self._judge(trials, known)
        self.folder.write_json(self.folder.check, result.record)
        return result

    def _trained(self, epochs: int) -> StudySettings:
        asked = self.settings.study()
        return replace(asked, epochs=epochs, optimizer="random", trial_pruner="none")

    def _study(self, stack: ExitStack, name: str, settings: StudySettings) -> optuna.Study:
        return stack.enter_context(
            open_study(self.folder.storage, name, settings, observer=self.observer, needs={CONFIGURATION: int})
        )

    def _train(self, study: optuna.Study, objective: Objective, settings: StudySettings, phase: Phase) -> None:
        total = queue(study, dict(enumerate(self.points)))
        run_trials(study, objective, settings, n_trials=total, phase=phase, observer=self.observer, retries=0)

    def _by_place(self, study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
        """The trial of each configuration that has a score or diverged, by its place in the sequence."""
        return {place: trial for place, trial in tried(study).items() if place < len(self.points)}

    def _judge(self, trials: Mapping[str, Mapping[int, optuna.trial.FrozenTrial]], known: Record) -> CheckResult:
        places = range(len(self.points))
        scores = {name: [self._comparable(found.get(place)) for place in places] for name, found in trials.items()}
        correlation = _correlation(scores["proxy"], scores["base"])
        ceiling = _correlation(scores["base"], scores["again"])
        if all(score is None for each in scores.values() for score in each):
            raise SearchError("no training of the check came to a score")
        ratio = _cost_ratio(trials["proxy"], trials["base"])
        found = verdict(correlation, ceiling, ratio)
        record = {
            "format": FORMAT,
            **{name: value for name, value in self.settings.to_record().items() if name in RECORDED},
            "check_epochs": self.epochs,
            **known,
            "versions": provenance.versions(),
            "configurations": [
                {"params": self.points[place], **{name: _entry(trials[name].get(place)) for name in NETWORKS}}
                for place in places
            ],
            "correlation": None if correlation is None else vars(correlation),
            "ceiling": None if ceiling is None else vars(ceiling),
            "cost_ratio": ratio,
            "verdict": vars(found),
        }
        return CheckResult(self.folder.path, found, correlation, ceiling, ratio, record)

    def _comparable(self, trial: optuna.trial.FrozenTrial | None) -> float | None:
        """A score of which more is better, -inf if the trial diverged, None if it has none."""
        if trial is None:
            return None
        if outcome(trial) == "diverged":
            return -math.inf
        assert trial.value is not None
        return trial.value if self.settings.search.direction == "maximize" else -trial.value


RECORDED: Final = ("seed", "epochs", "direction", "space", "pruning")
"""The settings that say whether a later run has the proxy that was checked."""


def _digest(settings: Mapping[str, Any]) -> str:
    return digest(json.dumps(settings, sort_keys=True))[:12]


def _correlation(first: Sequence[float | None], second: Sequence[float | None]) -> RankCorrelation | None:
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return spearman([a for a, _ in both], [b for _, b in both])


def _cost_ratio(
    proxy: Mapping[int, optuna.trial.FrozenTrial], base: Mapping[int, optuna.trial.FrozenTrial]
) -> float | None:
    """Seconds of training, base over proxy: the median of the configurations that were trained to the end on both.

    Not the ratio of the sums, in which the first training of a process, which is slower, would weigh too much.
    """
    both = [place for place in proxy.keys() & base.keys() if _complete(proxy[place]) and _complete(base[place])]
    seconds = [[parts.train_seconds(found[place]) for found in (base, proxy)] for place in both]
    return median(b / p for b, p in seconds) if seconds and all(p for _, p in seconds) else None


def _complete(trial: optuna.trial.FrozenTrial) -> bool:
    return outcome(trial) == "complete"


def _entry(trial: optuna.trial.FrozenTrial | None) -> Record | None:
    if trial is None:
        return None
    return {
        "score": trial.value if _complete(trial) else None,
        "outcome": outcome(trial),
        "train_seconds": trial.user_attrs.get("train_seconds"),
        "epochs": trial.user_attrs.get("epochs"),
        "seed": trial.user_attrs.get("seed"),
    }
