"""Re-annealed rungs: a training for every rung, judged at its end, and every epoch counted."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from prunetune.backends import Float, SearchSpace
from prunetune.backends.pruners.hyperband import describe
from prunetune.backends.pruners.rungs import Rungs
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, join_study, open_study, outcome
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError
from prunetune.events import EpochEnded, Event, PhaseStarted, silent

pytestmark = pytest.mark.filterwarnings("error")

SPACE = SearchSpace({"x": Float(0, 1)})


def _settings(**options: Any) -> StudySettings:
    defaults = {"epochs": 9, "optimizer": "random", "trial_pruner": "asha", "rungs": "reannealed"}
    return StudySettings(SPACE, **{**defaults, **options})


def _run(
    folder: Path,
    objective: Callable[[dict[str, Any], Report], Any],
    n_trials: int,
    observer: Callable[[Event], None] = silent,
    name: str = "search",
    **options: Any,
) -> list[optuna.trial.FrozenTrial]:
    settings = _settings(**options)
    with open_study(f"sqlite:///{folder}/study.db", name, settings) as study:
        run_trials(study, objective, settings, n_trials=n_trials, observer=observer)
        return study.trials


def test_every_rung_is_a_training_of_its_own_and_its_end_is_what_counts(tmp_path: Path) -> None:
    """Asha stops after epochs 1 and 3 of 9; the first trial is the best so far, the second is worse at epoch 3 only."""
    asked: list[tuple[int, int, int]] = []
    events: list[Event] = []
    ends = {0: {1: 0.5, 3: 0.6, 9: 0.7}, 1: {1: 0.55, 3: 0.4}, 2: {1: 0.1}}

    def objective(params: dict[str, Any], report: Report) -> float:
        asked.append((report.number, report.epochs, report.seed))
        for epoch in range(1, report.epochs):
            report(99.0, epoch)  # on the way through a schedule: nobody judges that
        score = ends[report.number][report.epochs]
        report(score, report.epochs)
        return score

    trials = _run(tmp_path, objective, 3, events.append)
    assert [(number, epochs) for number, epochs, _ in asked] == [(0, 1), (0, 3), (0, 9), (1, 1), (1, 3), (2, 1)]
    assert len({seed for _, _, seed in asked}) == 3  # a trial's trainings begin alike
    assert [outcome(trial) for trial in trials] == ["complete", "pruned", "pruned"]
    assert [trial.intermediate_values for trial in trials] == [ends[0], ends[1], ends[2]]
    assert [trial.value for trial in trials] == [0.7, 0.4, 0.1]
    assert [trial.user_attrs["epochs"] for trial in trials] == [1 + 3 + 9, 1 + 3, 1]
    seen = [(event.epoch, event.epochs) for event in events if isinstance(event, EpochEnded) and event.number == 2]
    assert seen == [(1, 1), (1, 9)]
    notes = next(event.notes for event in events if isinstance(event, PhaseStarted))
    assert "stops after epoch: 1, 3, each time in a training of its own" in notes[0]


def test_a_trial_is_trained_at_the_rungs_of_its_bracket(tmp_path: Path) -> None:
    """Which that is, by Optuna's published rule: a hash of the study's name and the trial's number."""
    trained: dict[int, list[int]] = {}

    def objective(params: dict[str, Any], report: Report) -> float:
        trained.setdefault(report.number, []).append(report.epochs)
        return float(report.number)  # ever better: nothing is stopped

    trials = _run(tmp_path, objective, 4, name="rungs", trial_pruner="hyperband")
    sizes = [math.ceil(3 * 3**s / (s + 1)) for s in (2, 1, 0)]  # n of algorithm 1: 9, 5, 3
    for trial in trials:
        place = zlib.crc32(f"rungs_{trial.number}".encode()) % sum(sizes)
        bracket = next(number for number in range(3) if place < sum(sizes[: number + 1]))
        assert trained[trial.number] == [[1, 3, 9], [3, 9], [9]][bracket]
        assert trial.user_attrs["epochs"] == sum(trained[trial.number])  # though nothing was reported
    assert len({len(each) for each in trained.values()}) == 3


def test_trials_that_diverge_fail_or_stop_themselves(tmp_path: Path) -> None:
    def objective(params: dict[str, Any], report: Report) -> Any:
        if report.number == 0:
            return 0.5
        if report.number == 1:
            try:
                report(math.nan, 1)
            except optuna.TrialPruned:  # swallowed
                return 0.9
        if report.number == 2:
            return math.nan
        if report.number == 3:
            raise optuna.TrialPruned
        return None

    trials = _run(tmp_path, objective, 5)
    assert [outcome(trial) for trial in trials] == ["complete", "diverged", "diverged", "pruned", "failed"]
    assert trials[1].user_attrs["message"] == "the score is nan after epoch 1"
    assert trials[4].user_attrs["message"].startswith("the train function's return value, its final score, must be")


@pytest.mark.parametrize("trial_pruner", ["none", "median"])
def test_a_trial_pruner_without_rungs_is_refused(trial_pruner: str) -> None:
    with pytest.raises(InputError, match=f"rungs is 'reannealed', but the trial pruner '{trial_pruner}' has no rungs"):
        _settings(trial_pruner=trial_pruner)
    assert _settings(trial_pruner=trial_pruner, rungs="truncated").rungs == "truncated"


def test_a_study_keeps_its_form_of_rungs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with open_study(url, "search", _settings()) as study:
        study.set_user_attr("marker", 1)
    with (
        pytest.raises(SearchError, match="was started with rungs = 'reannealed', now it is None"),
        open_study(url, "search", _settings(rungs="truncated")),
    ):
        pass
    with join_study(url, None, marker="marker") as (_, settings):
        assert settings == _settings(optimizer="optuna:random")


def test_expected_epochs_by_hand() -> None:
    """Trial n goes on if it is among the best max(1, n // 3) of n: with three trials 1 + 1/2 + 1/3 of them do."""
    rungs = Rungs(3, ((1,),), 3, (1.0,))
    onward = 1 + 1 / 2 + 1 / 3
    assert rungs.expected_epochs(3) == pytest.approx((3 * 1 + onward * 2) / 3)
    assert rungs.expected_epochs(3, form="reannealed") == pytest.approx((3 * 1 + onward * 3) / 3)
    never = describe(1)
    assert never.expected_epochs(5) == never.expected_epochs(5, form="reannealed") == 1
