"""What a sampler may know of a study: which trials count, in which order, and as what each is told."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from prunetune.backends.trial import GIVEN_UP, WITHDRAWN
from prunetune.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

DRAW: Final = "prunetune:draw"
"""The system attribute of a trial that takes the place of a killed one; without it the draw is the trial's number."""
KILLS: Final = 2
"""Whose trials were killed so often is not drawn again: it may be what kills them."""


@dataclass(frozen=True)
class Told:
    """A trial as an optimizer hears of it."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    loss: float | None
    """Finite, the smaller the better; None for one that failed, has no score, or is still running."""
    running: bool = False


def claim_draw(study: Study, trial: FrozenTrial) -> int:
    """Which draw of the study's random stream is this trial's: the first that no other trial has.

    That is the trial's number, unless trials were killed before. The trial after a killed one takes its place, and so a
    search that is killed and resumed suggests what it would have suggested. Two processes that replace a killed trial
    in the same moment may take the same place.
    """
    others = [other for other in _all_trials(study) if other.number != trial.number]
    killed = Counter(_draw(other) for other in others if _interrupted(other))
    if not killed:
        return trial.number
    taken = {_draw(other) for other in others if not _interrupted(other)}
    taken.update(draw for draw, times in killed.items() if times >= KILLS)
    draw = next(number for number in itertools.count() if number not in taken)
    if draw != trial.number:
        study._storage.set_trial_system_attr(trial._trial_id, DRAW, draw)
    return draw


def tell_all(study: Study, trial: FrozenTrial, draw: int) -> list[Told]:
    """What the trial with that draw may know: all other trials in the order of their draws.

    A running trial with a later draw is not among them: it will take account of this one, and if both took account of
    each other, both would get the same point. A trial that was stopped is told as its last score. One whose score is
    not finite is told as the worst finite one of all, so that neither NaN nor infinity gets to any optimizer. A killed
    one is left out: it will be drawn again.

    Raises InputError for a study of several objectives.
    """
    if study._is_multi_objective():
        raise InputError("this optimizer is for one objective, and the study has several; take an Optuna sampler")
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    others = [t for t in _all_trials(study) if t.number != trial.number and t.state != TrialState.WAITING]
    killed = Counter(_draw(other) for other in others if _interrupted(other))
    others = [t for t in others if t.state != TrialState.RUNNING or _draw(t) < draw]
    counted = [t for t in others if not _interrupted(t) or killed[_draw(t)] >= KILLS]
    scores = {other.number: _score(other) for other in counted}
    finite = [sign * score for score in scores.values() if score is not None and math.isfinite(score)]
    worst = max(finite, default=0.0)

    def loss(score: float | None) -> float | None:
        return None if score is None else sign * score if math.isfinite(score) else worst

    return [
        Told(t.params, t.distributions, loss(scores[t.number]), t.state == TrialState.RUNNING)
        for t in sorted(counted, key=lambda each: (_draw(each), each.number))
    ]


def common_space(history: Sequence[Told]) -> dict[str, BaseDistribution]:
    """The hyperparameters that every trial with a score has, from the same distribution, sorted by name.

    Conditional ones are not among them, nor those with only one value.
    """
    scored = [told.distributions for told in history if told.loss is not None and told.params]
    if not scored:
        return {}
    return {
        name: distribution
        for name, distribution in sorted(scored[0].items())
        if not distribution.single() and all(each.get(name) == distribution for each in scored)
    }


def _all_trials(study: Study) -> list[FrozenTrial]:
    """Those of all of Hyperband's brackets (`study.get_trials` has one's own only), but for those that never began."""
    trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get("outcome") != WITHDRAWN]


def _draw(trial: FrozenTrial) -> int:
    draw: int = trial.system_attrs.get(DRAW, trial.number)
    return draw


def _interrupted(trial: FrozenTrial) -> bool:
    notes = trial.user_attrs
    return trial.state == TrialState.FAIL and (notes.get("outcome") == "interrupted" or notes.get(GIVEN_UP, False))


def _score(trial: FrozenTrial) -> float | None:
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        return trial.intermediate_values[trial.last_step]
    return None
