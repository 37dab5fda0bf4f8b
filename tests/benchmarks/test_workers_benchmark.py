"""Workers work at the same time: counted, not timed."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.fault_drill.runs import Found
from benchmarks.workers.runs import overlap
from prunetune.backends import Float, SearchSpace
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study, outcome
from prunetune.backends.study.trial import Report

SETTINGS = StudySettings(SearchSpace({"x": Float(0, 1)}), epochs=1, optimizer="random", trial_pruner="none")
WORKERS = 4
ROUNDS = 3


def _work(url: str, folder: Path) -> None:
    def all_at_once(params: dict[str, Any], report: Report) -> float:
        """Trials 0 to 3 end when all four have begun, then 4 to 7, and so on: one after another they never would."""
        (folder / f"begun-{report.number}").touch()
        first = report.number - report.number % WORKERS
        deadline = time.monotonic() + 60
        while not all((folder / f"begun-{number}").exists() for number in range(first, first + WORKERS)):
            if time.monotonic() > deadline:
                raise TimeoutError("the others have not begun")
            time.sleep(0.01)
        return 1.0

    with open_study(url, "search", SETTINGS) as study:
        run_trials(study, all_at_once, SETTINGS, n_trials=WORKERS * ROUNDS)


@pytest.mark.parametrize("kind", ["sqlite:///{}/s.db", "journal://{}/j.log"])
def test_four_workers_have_four_trials_running(kind: str, tmp_path: Path) -> None:
    fork, url = multiprocessing.get_context("fork"), kind.format(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        processes = [fork.Process(target=_work, args=(url, tmp_path)) for _ in range(WORKERS)]
        for process in processes:
            process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0] * WORKERS
    with open_study(url, "search", SETTINGS) as study:
        assert [outcome(trial) for trial in study.trials] == ["complete"] * WORKERS * ROUNDS


def test_overlap_is_the_number_of_trials_at_a_time() -> None:
    """0 to 4 s, 0 to 2 s and 2 to 4 s: two at a time."""
    start = datetime(2026, 1, 1)
    trials = []
    for begin, end in ((0, 4), (0, 2), (2, 4)):
        trial = optuna.create_trial(state=TrialState.COMPLETE, value=1.0)
        trial.datetime_start = start + timedelta(seconds=begin)
        trial.datetime_complete = start + timedelta(seconds=end)
        trials.append(trial)
    assert overlap(Found(trials, Counter(), Counter(), kills=0, seconds=4.0)) == 2.0
