"""Before a search: the networks that its ladder may use, cut and timed, and the plan that comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch import nn

from prunetune import engine
from prunetune.errors import InputError
from prunetune.events import Notice
from prunetune.ladder.costs import Costs
from prunetune.ladder.named import Situation, networks_of, plan_by_name, plan_for
from prunetune.ladder.plan import Plan
from prunetune.ladder.rung import Ladder
from prunetune.plugins import make_scorer
from prunetune.pruning.cut import prune
from prunetune.transfer.norms import norms_for
from prunetune.tuning.plans import Plans, plans_note, plans_of
from prunetune.tuning.problem import build_base
from prunetune.tuning.resolution import check_resolution, step_ratio
from prunetune.tuning.settings import at_width

if TYPE_CHECKING:
    from prunetune.engine import PruningPlan
    from prunetune.engine.selection.ranking import Scores
    from prunetune.events import Observer
    from prunetune.plugins.base import Context, Scorer
    from prunetune.pruning.result import PruneResult
    from prunetune.tuning.problem import Problem
    from prunetune.tuning.settings import Settings

TRIAL_SECONDS: Final = 0.08
"""What a trial takes besides its training: its place in the storage, the record, its share of survey and report. It
counts where trainings take seconds."""
PRECISION: Final = 0.05
"""Of step times: numbers of configurations do not depend on more, and each per cent costs turns."""
LEAST_TURNS: Final = 2
"""Of large networks, whose steps take long: two turns tell their ratio as well as the precision asks for."""
MOST_TRAININGS: Final = 1e6
"""A ladder that needs more is for nobody."""


@dataclass(frozen=True)
class Survey:
    """Networks by their share of the width (None: as small as ``pruning`` says), and what their steps cost."""

    networks: Mapping[float | None, PruneResult]
    plans: Mapping[float | None, Plans]
    """How they are cut: each network of the space where ``model_fn(params)`` builds several."""
    seconds: Mapping[float | None, float]
    """Of a training step on the example inputs; 1 is the full network."""
    costs: Costs


def survey(problem: Problem, settings: Settings, base: nn.Module, observer: Observer) -> Survey:
    """Cut and time whatever the ladder of ``settings`` may use. Raises InputError for what cannot be cut or resized."""
    problem.check_goes_with(settings.pruning)
    asked = settings.ladder
    rungs = asked.rungs if isinstance(asked, Ladder) else ()
    widths = {rung.width for rung in rungs} if rungs else set(networks_of(str(asked)))
    wanted = sorted(widths - {1.0}, key=lambda width: (width is not None, -(width or 0)))
    networks = _cut(problem, settings, base, wanted, observer)
    plans = plans_of(
        problem.model_fn,
        _plans(networks),
        lambda build: _plans(_cut(problem, settings, build_base(build, settings.seed)[0], wanted, observer)),
        settings.seed,
    )
    if said := plans_note(problem.model_fn, plans):
        observer(Notice(said))
    models = {1.0: base, **{width: result.model for width, result in networks.items()}}
    named = {str(width): model for width, model in models.items()}
    measured = engine.step_time(named, problem.example_inputs, precision=PRECISION, least=LEAST_TURNS)
    seconds = {width: measured[str(width)] for width in models}
    steps = {(width, 1.0): each / seconds[1.0] for width, each in seconds.items()}
    for rung in rungs:
        if rung.resolution < 1:
            check_resolution(base, problem.example_inputs, rung.resolution)
            ratio = step_ratio(base, models[rung.width], problem.example_inputs, rung.resolution)
            steps[rung.width, rung.resolution] = ratio
    full_seconds = seconds[1.0] * (problem.steps or math.inf) * settings.epochs
    return Survey(networks, plans, seconds, Costs(steps, settings.epochs, TRIAL_SECONDS / full_seconds))


def _cut(
    problem: Problem, settings: Settings, base: nn.Module, widths: Sequence[float | None], observer: Observer
) -> dict[float | None, PruneResult]:
    """``base`` cut to each of the widths."""
    scorer = _scores_once(settings.pruning.scorer)
    networks = {
        width: prune(
            base,
            problem.example_inputs,
            **{**at_width(settings.pruning, width).arguments(), **problem.scoring.arguments(), "scorer": scorer},
            seed=settings.seed,
            observer=observer,
        )
        for width in widths
    }
    names = norms_for(settings.pruning.transfer, base, problem.example_inputs) if networks else frozenset()
    return {width: result.with_norms(names) for width, result in networks.items()}


def _plans(networks: Mapping[float | None, PruneResult]) -> dict[float | None, PruningPlan]:
    return {width: result.plan for width, result in networks.items()}


def _scores_once(name: str) -> Scorer:
    """The scorer of that name, which scores the network once: all widths are cut by the same scores."""
    scorer = make_scorer(name)
    unit_scores = scorer.unit_scores
    known: dict[int, Scores] = {}

    def remembered(context: Context) -> Scores:
        count = context.graph.unit_count
        if count not in known:
            known[count] = unit_scores(context)
        return known[count]

    scorer.unit_scores = remembered  # type: ignore[method-assign]
    return scorer


def planned(settings: Settings, costs: Costs, *, trainings: float | None, steps_per_epoch: int | None) -> Plan:
    """The plan for what was asked for: a ladder, or one by its name for a budget of so many full trainings.

    Raises InputError where the budget is too small, or too small for a ladder that is given.
    """
    asked = settings.ladder
    if isinstance(asked, Ladder):
        return plan_for(asked, costs)
    situation = Situation(costs, trainings, settings.search.n_trials, settings.search.confirm, steps_per_epoch)
    return plan_by_name(str(asked), situation)


def least_budget(made: Callable[..., Plan]) -> float:
    """The smallest budget ``trainings`` for which ``made`` makes a plan, to a thousandth of a full training.

    Raises InputError if there is none.
    """
    low, high = 0.0, 1.0
    while not _fits(made, high):
        low, high = high, 2 * high
        if high > MOST_TRAININGS:
            made(trainings=high)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if _fits(made, middle) else (middle, high)
    return high


def _fits(made: Callable[..., Plan], budget: float) -> bool:
    try:
        made(trainings=budget)
    except InputError:
        return False
    return True


def whole(problem: Problem, settings: Settings, base: nn.Module) -> PruneResult:
    """The full network as a proxy from which nothing is cut."""
    return prune(base, problem.example_inputs, scorer="uniform", ratio=1, seed=settings.seed)
