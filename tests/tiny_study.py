"""Searches whose scores are known: one hyperparameter in whatever storage, and a bowl in memory."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

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


RANGES = {"x": FloatDistribution(0, 1), "y": FloatDistribution(1e-3, 1, log=True), "n": IntDistribution(1, 9)}


def bowl(params: dict[str, Any]) -> float:
    return (params["x"] - 0.7) ** 2 + (math.log10(params["y"]) + 1) ** 2 / 9 + (params["n"] - 3) ** 2 / 64


def study_of(optimizer: Any, direction: str = "minimize") -> optuna.Study:
    storage = optuna.storages.InMemoryStorage()
    return optuna.create_study(sampler=optimizer, study_name="s", storage=storage, direction=direction)
