"""CMA-ES of the package cmaes: what it is told, by hand, whether it lives on or is told anew."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import cmaes
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from prunetune.backends.samplers.seeded import sampler
from tiny_study import RANGES, bowl, study_of


def test_optunas_cma_learns_from_stopped_trials_and_pickles_nothing() -> None:
    study = study_of(sampler("optuna:cmaes", 0))
    for number in range(60):
        trial = study.ask(RANGES)
        trial.report(bowl(trial.params), 1)
        study.tell(trial, state=TrialState.PRUNED) if number % 2 else study.tell(trial, bowl(trial.params))
    assert {key for trial in study.trials for key in trial.system_attrs} == {"cma:generation"}
    assert max(trial.system_attrs.get("cma:generation", 0) for trial in study.trials) == 59 // 7
    late = float(np.mean([bowl(trial.params) for trial in study.trials[-10:]]))
    assert late < 0.4 * float(np.mean([bowl(trial.params) for trial in study.trials[:10]]))


def test_optunas_cma_begins_with_the_best_that_another_study_was_told() -> None:
    """Whoever adds the trials of another study tells 30 of no generation, the best of them the last."""
    study, ranges = study_of(sampler("optuna:cmaes", 3), "maximize"), {name: FloatDistribution(0, 1) for name in "xy"}
    for place in np.linspace(0.9, 0.3, 30):
        params = {"x": float(place), "y": 0.5}
        study.add_trial(optuna.create_trial(params=params, distributions=ranges, value=-float(place)))
    alone = cmaes.CMA(np.full(2, 0.5), 1 / 6, bounds=np.array([[0.0, 1.0]] * 2))
    best = study.trials[-alone.population_size :]
    alone.tell([(np.array([t.params["x"], t.params["y"]]), t.params["x"]) for t in best])
    asked = [study.ask(ranges).params for _ in range(300)]
    points = np.array([[params["x"], params["y"]] for params in asked])
    assert points.mean(axis=0) == pytest.approx(alone.mean, abs=0.04)
    assert alone.mean[0] < 0.4 and np.mean([t.params["x"] for t in study.trials[:6]]) > 0.8


def test_optunas_cma_begins_with_the_generation_of_the_sobol_points() -> None:
    """The first ten are the Sobol points of all; where it asks next is where the package cmaes is after these."""
    study, others = study_of(sampler("optuna:cmaes", 3)), study_of(sampler("nevergrad:cma", 3))
    ranges = {name: FloatDistribution(0, 1) for name in "xyz"}

    def loss(params: dict[str, Any]) -> float:
        return sum((params[name] - optimum) ** 2 for name, optimum in zip("xyz", (0.35, 0.6, 0.5), strict=True))

    for each in (study, others):
        for _ in range(10):
            trial = each.ask(ranges)
            each.tell(trial, loss(trial.params))
    assert [trial.params for trial in study.trials] == [trial.params for trial in others.trials]

    alone = cmaes.CMA(np.full(3, 0.5), 1 / 6, bounds=np.array([[0.0, 1.0]] * 3))
    assert alone.population_size == 7
    best = sorted(study.trials, key=lambda trial: loss(trial.params))[:7]
    alone.tell([(np.array([t.params[name] for name in "xyz"]), loss(t.params)) for t in best])
    asked = [study.ask(ranges).params for _ in range(300)]  # none of them is told
    points = np.array([[params[name] for name in "xyz"] for params in asked])
    assert points.mean(axis=0) == pytest.approx(alone.mean, abs=0.04)
    assert np.abs(alone.mean - 0.5).max() > 0.08, "or it might as well be the centre"


def test_with_one_hyperparameter_and_with_choices_only() -> None:
    for ranges in ({"x": FloatDistribution(0, 1)}, {"c": CategoricalDistribution(["a", "b", "c"])}):
        study = study_of(sampler("optuna:cmaes", 0))
        for _ in range(40):
            trial = study.ask(ranges)
            study.tell(trial, abs(trial.params.get("x", 0.0) - 0.2))
        if "x" in ranges:
            assert study.best_value < 0.005
        else:
            counts = Counter(trial.params["c"] for trial in study.trials)
            assert min(counts.values()) >= 11 and max(counts.values()) <= 16, "evenly, as Sobol points are"


def test_cma_goes_on_from_generation_to_generation() -> None:
    """After 31 trials it asks where the package cmaes is that was told the best of ten, and three times seven."""
    study, ranges = study_of(sampler("optuna:cmaes", 3)), {name: FloatDistribution(0, 1) for name in "xyz"}

    def loss(params: dict[str, Any]) -> float:
        return sum((params[name] - optimum) ** 2 for name, optimum in zip("xyz", (0.35, 0.8, 0.1), strict=True))

    for _ in range(31):
        trial = study.ask(ranges)
        study.tell(trial, loss(trial.params))
    alone = cmaes.CMA(np.full(3, 0.5), 1 / 6, bounds=np.array([[0.0, 1.0]] * 3))
    first = sorted(study.trials[:10], key=lambda trial: loss(trial.params))[:7]
    for generation in (first, study.trials[10:17], study.trials[17:24], study.trials[24:31]):
        alone.tell([(np.array([t.params[name] for name in "xyz"]), loss(t.params)) for t in generation])
    for _ in range(300):
        study.ask(ranges)  # none of them is told
    asked = study.trials[31:]
    assert {trial.system_attrs["cma:generation"] for trial in asked} == {4}
    points = np.array([[trial.params[name] for name in "xyz"] for trial in asked])
    assert points.mean(axis=0) == pytest.approx(alone.mean, abs=0.04)
    assert np.abs(alone.mean - np.mean([[t.params[name] for name in "xyz"] for t in first], axis=0)).max() > 0.08


def test_cma_takes_a_diverged_trial_for_the_worst() -> None:
    """Whichever way scores go: an infinite one, and NaN of a trial that was stopped."""
    for direction, bad in (("minimize", -math.inf), ("maximize", math.inf)):
        study = study_of(sampler("optuna:cmaes", 0), direction)
        sign = 1 if direction == "minimize" else -1
        for number in range(60):
            trial = study.ask(RANGES)
            if trial.params["x"] > 0.5 and number % 2:
                trial.report(math.nan, 1)
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, bad if trial.params["x"] > 0.5 else sign * bowl(trial.params))
        assert np.mean([trial.params["x"] > 0.5 for trial in study.trials[-20:]]) < 0.3


def test_cma_es_that_lives_on_asks_what_one_does_that_is_told_anew() -> None:
    """Also where a better point of no generation comes later, which another first generation follows from."""
    ranges = {name: FloatDistribution(0, 1) for name in "xyz"}
    study = study_of(sampler("optuna:cmaes", 3))
    for number in range(60):
        if number == 40:
            study.enqueue_trial({"x": 0.3, "y": 0.3, "z": 0.31})
        anew = study_of(sampler("optuna:cmaes", 3))
        anew.add_trials(study.get_trials(deepcopy=False))
        asked, again = study.ask(ranges), anew.ask(ranges)
        assert asked.params == again.params
        study.tell(asked, sum((value - 0.3) ** 2 for value in asked.params.values()))


def test_cma_es_is_told_each_generation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told, tell = [], cmaes.CMA.tell
    monkeypatch.setattr(cmaes.CMA, "tell", lambda self, solutions: (told.append(len(solutions)), tell(self, solutions)))
    study, ranges = study_of(sampler("optuna:cmaes", 3)), {name: FloatDistribution(0, 1) for name in "xyz"}
    for _ in range(60):
        trial = study.ask(ranges)
        study.tell(trial, sum(trial.params.values()))
    assert told == [7] * 8  # the best of ten, and of fifty more what makes full sevens
