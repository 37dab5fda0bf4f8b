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

from prunetune.backends.study.attributes import DRAW, GIVEN_UP, RETRY_OF, WITHDRAWN
from prunetune.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

KILLS: Final = 2
"""Whose trials were killed so often is not drawn again: it may be what kills them."""


@dataclass(frozen=True)
class Observation:
    """A trial as an optimizer hears of it."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    loss: float | None
    """Finite, the smaller the better; None for one that failed, has no score, or is still running."""
    running: bool = False


def claim_draw(study: Study, trial: FrozenTrial) -> int:
    """Which draw of the study's random stream is this trial's: the first that no other trial has.

    That is the trial's number, unless trials were interrupted before. The trial after an interrupted one takes its
    place, and so a search that is stopped and resumed suggests what it would have suggested. Where a process died, its
    trial's place is kept for the one that repeats it.

    Several processes may take the same place in the same moment. So whoever has written down his claim looks again, and
    takes another if he is not alone: of two, the one who wrote later sees both.
    """
    draw, written = trial.number, False
    while True:
        trials = _all_trials(study)
        if not written and RETRY_OF not in trial.user_attrs and not any(map(_interrupted, trials)):
            return draw
        draws = _draws(trials)
        if RETRY_OF in trial.user_attrs:
            return draws[trial.number]
        others = [other for other in trials if other.number != trial.number]
        taken = _taken(others, draws)
        if written and draw not in taken:
            return draw
        rivals = [other.number for other in others if draws[other.number] == draw and not _interrupted(other)]
        ahead = sum(number < trial.number for number in rivals)
        free = (number for number in itertools.count() if number not in taken)
        found = next(itertools.islice(free, ahead, None))  # those that have the same go to different ones
        if found == draw:
            return draw
        draw, written = found, True
        study._storage.set_trial_system_attr(trial._trial_id, DRAW, draw)


def unrepeated(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials whose process died and that no other trial was to repeat, nor has taken the place of."""
    if not any(map(_given_up, trials)):
        return []
    repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    trials = _begun(trials)
    draws = _draws(trials)
    live = {draws[trial.number] for trial in trials if not _interrupted(trial)}
    return [t for t in trials if _given_up(t) and t.number not in repeated and draws[t.number] not in live]


def observations(study: Study, trial: FrozenTrial, draw: int) -> list[Observation]:
    """What the trial with that draw may know: all other trials in the order of their draws.

    A running trial with a later draw is not among them: it will take account of this one, and if both took account of
    each other, both would get the same point. A trial that was stopped is told as its last score. One whose score is
    not finite is told as the worst finite one of all, so that neither NaN nor infinity gets to any optimizer. An
    interrupted one is left out, for it comes again; of a place that was given up, all are told.

    Raises InputError for a study of several objectives.
    """
    sign = sign_of(study)
    trials = _all_trials(study)
    draws = _draws(trials)
    others = [other for other in trials if other.number != trial.number]
    live = {draw, *(draws[other.number] for other in others if not _interrupted(other))}
    over = {draw for draw, times in _interruptions(others, draws).items() if times >= KILLS} - live
    others = [t for t in others if t.state != TrialState.WAITING]
    others = [t for t in others if t.state != TrialState.RUNNING or draws[t.number] < draw]
    counted = [t for t in others if not _interrupted(t) or draws[t.number] in over]
    scores = {other.number: score_of(other) for other in counted}
    finite = [sign * score for score in scores.values() if score is not None and math.isfinite(score)]
    worst = max(finite, default=0.0)

    def loss(score: float | None) -> float | None:
        return None if score is None else sign * score if math.isfinite(score) else worst

    return [
        Observation(t.params, t.distributions, loss(scores[t.number]), t.state == TrialState.RUNNING)
        for t in sorted(counted, key=lambda each: (draws[each.number], each.number))
    ]


def common_space(history: Sequence[Observation]) -> dict[str, BaseDistribution]:
    """The hyperparameters that every trial with a score has, from the same distribution, sorted by name.

    Conditional ones are not among them, nor those with only one value.
    """
    scored = [each.distributions for each in history if each.loss is not None and each.params]
    if not scored:
        return {}
    return {
        name: distribution
        for name, distribution in sorted(scored[0].items())
        if not distribution.single() and all(each.get(name) == distribution for each in scored)
    }


def _all_trials(study: Study) -> list[FrozenTrial]:
    """Those of all of Hyperband's brackets (`study.get_trials` has one's own only), but for those that never began."""
    return _begun(study._storage.get_all_trials(study._study_id, deepcopy=False))


def _begun(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [t for t in trials if t.state == TrialState.COMPLETE or t.user_attrs.get("outcome") != WITHDRAWN]


def _draws(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """By number, each trial's draw: what it claimed, else that of the trial that it repeats, else its number."""
    draws: dict[int, int] = {}
    for trial in trials:
        repeated = draws.get(trial.user_attrs.get(RETRY_OF, trial.number), trial.number)
        draws[trial.number] = trial.system_attrs.get(DRAW, repeated)
    return draws


def _taken(trials: Sequence[FrozenTrial], draws: Mapping[int, int]) -> set[int]:
    held = {draws[trial.number] for trial in trials if not _interrupted(trial) or _given_up(trial)}
    return held | {draw for draw, times in _interruptions(trials, draws).items() if times >= KILLS}


def _interruptions(trials: Sequence[FrozenTrial], draws: Mapping[int, int]) -> Counter[int]:
    return Counter(draws[trial.number] for trial in trials if _interrupted(trial))


def _interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and (_given_up(trial) or trial.user_attrs.get("outcome") == "interrupted")


def _given_up(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(GIVEN_UP, False))


def sign_of(study: Study) -> float:
    """-1 or 1: times a score it is a loss. Raises InputError for a study of several objectives."""
    if study._is_multi_objective():
        raise InputError("this optimizer is for one objective, and the study has several; take an Optuna sampler")
    return -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0


def score_of(trial: FrozenTrial) -> float | None:
    """The score of a trial that is over, of one that was stopped the last; None if it has none."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        return trial.intermediate_values[trial.last_step]
    return None
