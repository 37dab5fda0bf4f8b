"""Rungs whose learning-rate schedule is finished: a trial is trained anew for every rung, each time a little longer.

What published successive halving with re-annealed schedules does; it needs nothing of the train function but that it
trains for ``report.epochs`` epochs. Decision 26 has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner

from prunetune.backends import trial_pruners
from prunetune.backends.given import Given
from prunetune.backends.space import Params
from prunetune.backends.study.trial import Report, final_score
from prunetune.errors import InputError
from prunetune.registry import build

if TYPE_CHECKING:
    import optuna

Objective = Callable[[Params, Report], float]


def check_rungs(trial_pruner: str, epochs: int) -> None:
    """Raise InputError unless the trial pruner of that name says at which epochs it judges a trial."""
    if isinstance(trial_pruner, Given) or not hasattr(
        build(trial_pruners, trial_pruner, BasePruner, epochs), "rungs_of"
    ):
        raise InputError(
            f"rungs is 'reannealed', but the trial pruner {trial_pruner!r} has no rungs at which a schedule could be "
            "finished; take 'hyperband' or 'asha', or leave rungs at 'truncated'"
        )


def rungs_of(study: optuna.Study, trial: optuna.Trial) -> tuple[int, ...]:
    """The epochs at which the study's trial pruner judges this trial; see ``check_rungs``."""
    found: tuple[int, ...] = study.pruner.rungs_of(study, trial)  # type: ignore[attr-defined]
    return found


def reannealed(objective: Objective, rungs: tuple[int, ...]) -> Objective:
    """An objective that trains once for every rung, and if the trial is not stopped there, to the last epoch.

    The trial pruner sees the final score of each training only.
    """

    def train_each(params: Params, report: Report) -> float:
        score = 0.0
        for epochs in (*rungs, report.epochs):
            training = report.training(epochs)
            try:
                returned = objective(params, training)
            finally:
                report.count(training.epoch)
            if training.stopped is not None:  # it diverged, and the train function went on all the same
                return score
            score = final_score(returned)
            report.count(0 if training.epoch else epochs)  # who tells of no epoch has trained all the same
            report(score, epochs)
        return score

    return train_each
