"""A search whose score is its one hyperparameter, in whatever storage."""

from __future__ import annotations

from typing import Any

from prunetune.backends import Float, SearchSpace
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study
from prunetune.backends.study.trial import Report

SETTINGS = StudySettings(SearchSpace({"x": Float(0, 1)}), epochs=3, optimizer="random", trial_pruner="none")


def score(params: dict[str, Any], report: Report) -> float:
    report(params["x"], 1)
    return float(params["x"])


def search(url: str, n_trials: int, **options: Any) -> list[dict[str, Any]]:
    with open_study(url, "search", SETTINGS, **options) as study:
        run_trials(study, score, SETTINGS, n_trials=n_trials)
        return [trial.params for trial in study.trials]
