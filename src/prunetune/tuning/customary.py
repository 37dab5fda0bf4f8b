"""The customary search, which a run is held against: Optuna's TPE with Hyperband on the full network."""

from __future__ import annotations

from typing import Final

from prunetune.backends.pruners.rungs import Rungs
from prunetune.backends.study.study import trial_pruner

CUSTOMARY_TRIALS: Final = 50


def customary_trainings(epochs: int) -> float:
    """About how many full trainings the customary search takes, its winner's own included."""
    rungs: Rungs = trial_pruner("hyperband", epochs).rungs  # type: ignore[attr-defined]
    stopped = rungs.expected_epochs(CUSTOMARY_TRIALS) / epochs
    return CUSTOMARY_TRIALS * stopped + 1
