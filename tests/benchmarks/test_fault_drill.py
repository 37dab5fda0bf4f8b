"""The fault drill, in short, and that it would notice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.fault_drill import Drill, Found, check, run


@pytest.mark.parametrize("kind", ["sqlite:///{}/s.db"])
def test_twenty_kills_lose_nothing(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path_factory.mktemp("drill")
    path = folder / f"prunetune-drill-{tmp_path_factory.getbasetemp().name}"
    path.mkdir(exist_ok=True)
    try:
        found = run(Drill(kind.format(path), n_trials=70, workers=3, kills=20, pause=(0.05, 0.5)))
    finally:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert found.failures == []
    assert len(found.interrupted) > 0


DRILL = Drill("sqlite://", n_trials=3, workers=1, kills=1)


def _trial(number: int, state: TrialState = TrialState.COMPLETE, **attributes: Any) -> optuna.trial.FrozenTrial:
    value = 1.0 if state == TrialState.COMPLETE else None
    x = optuna.distributions.FloatDistribution(0, 1)
    trial = optuna.create_trial(
        state=state, value=value, params={"x": 0.5}, distributions={"x": x}, user_attrs=attributes
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
        ({"kills": 0}, ["only 0 of 1 kills: the search was over before", "1 trials are interrupted by 0 kills"]),
    ],
)
def test_the_drill_notices(changes: dict[str, Any], said: list[str]) -> None:
    assert check(DRILL, _found(**changes)) == said
