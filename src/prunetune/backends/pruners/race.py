"""A race of trainings: one that is clearly behind the best that has finished is stopped (decision 22)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from prunetune._utils.checks import whole_number
from prunetune.backends.study.attributes import BEHIND, PROXY_CURVE, TOLD

Curve: TypeAlias = Sequence[tuple[float, float]]
"""(epoch, score), in order."""

QUARTERS: Final = 4


def stops(epochs: int) -> tuple[int, ...]:
    """After which epochs a training may be stopped: a quarter, a half, three quarters, rounded up.

    >>> stops(16), stops(5), stops(2), stops(1)
    ((4, 8, 12), (2, 3, 4), (1,), ())
    """
    quarters = {-(-epochs * quarter // QUARTERS) for quarter in range(1, QUARTERS)}
    return tuple(sorted(epoch for epoch in quarters if epoch < epochs))


def score_at(curve: Curve, epoch: float) -> float | None:
    """The last score that was reported up to ``epoch``; None if there is none."""
    known = [score for step, score in curve if step <= epoch]
    return known[-1] if known else None


def movement(curve: Curve, epoch: float) -> float:
    """How far apart the scores of a whole curve are from ``epoch`` on, the last one up to then included.

    >>> movement([(1, 0.5), (2, 0.75), (3, 1.0), (4, 0.875)], 2)
    0.25
    """
    before = score_at(curve, epoch)
    scores = [score for step, score in curve if step > epoch] + ([] if before is None else [before])
    return max(scores) - min(scores) if scores else 0.0


@dataclass(frozen=True)
class Standing:
    """Where a training is in the race: ``gap`` to the best, and by how much scores still moved from there on."""

    gap: float
    margin: float

    @property
    def hopeless(self) -> bool:
        """Whether it would have to gain more than has been seen."""
        return self.gap > self.margin

    def __str__(self) -> str:
        return f"{self.gap:.3g} behind the best, where scores moved by {self.margin:.3g} at most until the end"


class Race(BasePruner):
    """Stops a trial that is further behind the best finished one than scores have been seen to move from there on.

    That is: its best score so far is worse than the best trial's at the same epoch, by more than the distance of
    highest and lowest score from that epoch on, in every trial that has finished, and in the same hyperparameters'
    training on the proxy where that is known. Stateless; the first trial has nobody to be compared with.
    """

    stops_few = True  # so no optimizer has to be warned that it will have little to learn from

    def __init__(self, epochs: int) -> None:
        self.epochs = whole_number("epochs", epochs, minimum=1)
        self.stops = stops(epochs)

    def note(self, n_trials: int) -> str:
        """The arithmetic of a training, the same for any number of them; nothing for one, and where there is none."""
        if not self.stops or n_trials == 1:
            return ""
        after = ", ".join(map(str, self.stops))
        saved = ", ".join(str(self.epochs - stop) for stop in self.stops)
        return (
            f"race: a training is stopped after epoch {after} of {self.epochs} where it is clearly behind the best "
            f"that has finished, which saves {saved} epochs"
        )

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether ``trial`` has just passed a stop and has no hope; what says so is noted in it."""
        steps = sorted(trial.intermediate_values)
        passed = steps[-2] if len(steps) > 1 else 0
        if not steps or not any(passed < stop <= steps[-1] for stop in self.stops):
            return False
        standing = self.standing(study, trial)
        if standing is None or not standing.hopeless:
            return False
        study._storage.set_trial_user_attr(trial._trial_id, BEHIND, str(standing))
        return True

    def standing(self, study: Study, trial: FrozenTrial) -> Standing | None:
        """Where ``trial`` is after its last report; None while there is nobody to compare it with."""
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        epoch = max(trial.intermediate_values)
        finished = [each for each in study.get_trials(deepcopy=False) if _finished(each)]
        if not finished:
            return None
        best = max(finished, key=lambda each: (sign * _value(each), -each.number))
        there = score_at(_curve(best), epoch)
        if there is None:
            return None
        margin = max(movement([*_curve(each), (self.epochs + 1, _value(each))], epoch) for each in finished)
        margin = max(margin, movement(trial.user_attrs.get(PROXY_CURVE, ()), epoch))
        own = max(sign * score for score in trial.intermediate_values.values())
        return Standing(sign * there - own, margin)


def _curve(trial: FrozenTrial) -> Curve:
    return sorted(trial.intermediate_values.items())


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _finished(trial: FrozenTrial) -> bool:
    """Whether its score is of a whole training of the same network: not of one that diverged, nor of a proxy."""
    notes: Mapping[str, Any] = trial.user_attrs
    ended = trial.state == TrialState.COMPLETE and notes.get("outcome", "complete") == "complete"
    return ended and notes.get(TOLD, "base") == "base" and math.isfinite(_value(trial))


def race(epochs: int) -> Race:
    """A trial stops at a quarter, a half or three quarters if it is clearly behind the best that has finished."""
    return Race(epochs)
