"""``plan``: the rungs of a search and what they will cost, before anything is trained."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from prunetune._utils.arguments import names_checked
from prunetune._utils.caller import given_back
from prunetune._utils.interrupts import interruptible
from prunetune.errors import InputError
from prunetune.events import Observer, silent
from prunetune.ladder.plan import Plan
from prunetune.ladder.rung import Ladder
from prunetune.pruning.checks import check_model_fn
from prunetune.tuning.asked import settings_of
from prunetune.tuning.problem import Problem
from prunetune.tuning.settings import Pruning, Search
from prunetune.tuning.survey import planned, survey

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs
    from prunetune.plugins.base import Batch, Loss
    from prunetune.tuning.types import ModelFunction


@names_checked(search=Search, pruning=Pruning)
@interruptible(signal.SIGINT)
@given_back()
def plan(
    model_fn: ModelFunction,
    *,
    example_inputs: ExampleInputs,
    epochs: int,
    pruning: Pruning = Pruning(),  # noqa: B008  # frozen
    search: Search = Search(),  # noqa: B008  # frozen
    ladder: Ladder | str | None = None,
    budget: float | str | None = None,
    steps_per_epoch: int | None = None,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    observer: Observer = silent,
) -> Plan:
    """The ladder that ``prunetune.tune`` climbs with the same arguments, and what each rung costs; trains nothing.

    The networks are cut and a training step of each is timed. For a time budget a full training is taken to be
    ``epochs`` x ``steps_per_epoch`` steps; ``tune`` measures it by its first trial instead.

    Parameters
    ----------
    model_fn, example_inputs, epochs, pruning, search, ladder, budget, steps_per_epoch, seed, data, loss
        As for ``prunetune.tune``.
    observer
        Hears of what is cut and timed, see ``prunetune.events``.

    Raises
    ------
    InputError
        An argument is impossible, or the budget is too small.
    TraceError
        The model does not run on the example inputs.

    Example
    -------
    >>> import torch
    >>> from torch import nn
    >>> import prunetune
    >>> search = prunetune.Search(n_trials=3)
    >>> print(plan(lambda: nn.Linear(4, 2), example_inputs=torch.zeros(8, 4), epochs=1, ladder="full", search=search))
    3 × the full network: 3 full trainings
    """
    check_model_fn(model_fn, alone=True)
    search = replace(search, direction=search.direction or "maximize")
    problem = Problem.of(
        model_fn,
        _never,
        "paper",
        example_inputs=example_inputs,
        epochs=epochs,
        direction=search.direction,
        seed=seed,
        data=data,
        loss=loss,
        steps=steps_per_epoch,
    )
    settings = settings_of(problem, pruning, search, ladder, budget)
    base, _ = problem.full_network()
    found = survey(problem, settings, base, observer)
    trainings = settings.budget.trainings
    if settings.budget.seconds is not None and problem.steps is None:
        raise InputError(
            f"budget is {budget!r}, and how long a full training takes is not known before one has begun; give "
            "steps_per_epoch, or the budget in full trainings"
        )
    if settings.budget.seconds is not None and problem.steps is not None:
        trainings = settings.budget.in_trainings(found.seconds[1.0] * problem.steps * problem.epochs)
    return planned(settings, found.costs, trainings=trainings, steps_per_epoch=problem.steps)


def _never(*_: object) -> float:
    raise AssertionError("a plan trains nothing")
