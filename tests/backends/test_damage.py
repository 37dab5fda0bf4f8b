"""What a study must hold of trials that count; a worker may have asked for others when there were enough."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from prunetune.backends import Float, SearchSpace
from prunetune.backends.study.attributes import WITHDRAWN
from prunetune.backends.study.damage import check_trials
from prunetune.errors import StorageError

SPACE = SearchSpace({"lr": Float(0.1, 1.0)})
NEEDS = {"came_up_from": int}
TRAINED = {"outcome": "complete", "seconds": 1.0, "epochs": 1, "seed": 3}


def study_with(state: TrialState, notes: dict[str, Any]) -> optuna.Study:
    study = optuna.create_study()
    ended = {"params": {"lr": 0.5}, "distributions": {"lr": FloatDistribution(0.1, 1.0)}}
    scored = {"value": 1.0} if state == TrialState.COMPLETE else {}
    study.add_trial(create_trial(state=state, user_attrs=notes, **ended, **scored))
    return study


@pytest.mark.parametrize(
    ("state", "notes"),
    [
        (TrialState.FAIL, {"outcome": WITHDRAWN}),
        (TrialState.FAIL, {}),  # its worker died before it could withdraw it
        (TrialState.RUNNING, {}),  # and that one is about to
        (TrialState.COMPLETE, {**TRAINED, "came_up_from": 4}),
        (TrialState.WAITING, {"came_up_from": 4}),
    ],
)
def test_what_does_not_count_needs_nothing(state: TrialState, notes: dict[str, Any]) -> None:
    check_trials(study_with(state, notes), SPACE, NEEDS)


@pytest.mark.parametrize(
    ("state", "notes"),
    [
        (TrialState.COMPLETE, TRAINED),
        (TrialState.PRUNED, TRAINED),
        (TrialState.WAITING, {}),
        (TrialState.FAIL, {"outcome": "failed"}),
        (TrialState.FAIL, {"outcome": "failed", "came_up_from": "4"}),
    ],
)
def test_what_counts_needs_all(state: TrialState, notes: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="trial 0 is not whole .its came_up_from is"):
        check_trials(study_with(state, notes), SPACE, NEEDS)
