"""The fault drill, in short, and that it would notice."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.fault_drill.runs import Drill, Found, check, run


def test_twenty_kills_lose_nothing() -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        found = run(Drill(f"sqlite:///{folder}/s.db", n_trials=60, workers=3, trial_seconds=0.2))
    assert found.kills == 20
    assert found.failures == []
    assert len(found.interrupted) > 0


DRILL = Drill("sqlite://", n_trials=3, workers=1, kills=1)


def _trial(
    number: int,
    state: TrialState = TrialState.COMPLETE,
    point: float | None = None,
    begun: bool = True,
    **attributes: Any,
) -> optuna.trial.FrozenTrial:
    point = number / 10 if point is None else point
    value = 1.0 if state == TrialState.COMPLETE else None
    x = optuna.distributions.FloatDistribution(0, 1)
    params, distributions = ({"x": point}, {"x": x}) if begun else ({}, {})
    trial = optuna.create_trial(
        state=state, value=value, params=params, distributions=distributions, user_attrs=attributes
    )
    trial.number = number
    return trial


def _found(**changes: Any) -> Found:
    trials = [_trial(0), _trial(1, TrialState.FAIL, given_up=True), _trial(2, retry_of=1), _trial(3)]
    good = Found(trials, Counter({0: 1, 1: 1, 2: 1, 3: 1}), Counter({0: 1, 2: 1, 3: 1}), kills=1, seconds=1.0)
    return replace(good, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"trials": [_trial(0), _trial(2)], "recorded": Counter()}, ["2 trials are finished instead of 3"]),
        ({"recorded": Counter({1: 1})}, ["trials [1] had been recorded and are lost"]),
        ({"begun": Counter({0: 2, 2: 1, 3: 1})}, ["trials [0] were begun twice"]),
        ({"begun": Counter({0: 1, 2: 1})}, ["trials [3] are finished and were never begun"]),
        ({"trials": [*_found().trials, _trial(4, TrialState.RUNNING)]}, ["trials [4] are still running"]),
        (
            {"trials": [*_found().trials[:3], _trial(3, point=0.2)]},
            ["the same hyperparameters were finished in trials [[2, 3]]"],
        ),
        (
            {"trials": [*_found().trials[:2], _trial(2), _trial(3)]},
            ["the hyperparameters of [1] were not tried again"],
        ),
        (  # killed before it had any, and another has taken its place
            {"trials": [_trial(0), _trial(1, TrialState.FAIL, begun=False, given_up=True), _trial(2), _trial(3)]},
            [],
        ),
        ({"kills": 0}, ["only 0 of 1 kills: the search was over before", "1 trials are interrupted by 0 kills"]),
    ],
)
def test_the_drill_notices(changes: dict[str, Any], said: list[str]) -> None:
    assert check(DRILL, _found(**changes)) == said
