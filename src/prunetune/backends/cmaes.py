"""Optuna's CMA-ES, without its pickles."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import CmaEsSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from prunetune.backends.extras import require
from prunetune.backends.quiet import quietly
from prunetune.backends.trial import RETRY_OF


class Cmaes(CmaEsSampler):
    """Optuna's sampler stores a pickled optimizer in the study, and unpickles what it finds there.

    A study may come from a stranger, and what an optimizer knows is what it was told: so here it is told again, one
    generation after the other.
    """

    def __init__(self, seed: int) -> None:
        with quietly(ExperimentalWarning):
            # without them it learns nothing beside Hyperband
            super().__init__(seed=seed, consider_pruned_trials=True, warn_independent_sampling=False)
        self._sampled: tuple[Study, dict[str, BaseDistribution]] | None = None

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Optuna's answer, whose random numbers depend on the trial's number besides the seed: here they must not."""
        self._sampled = study, search_space
        numberless = copy.copy(trial)
        numberless.number = 0
        return super().sample_relative(study, numberless, search_space)

    def _get_trials(self, study: Study) -> list[FrozenTrial]:
        """Those that it learns from. What repeats a dead worker's trial is of the generation of that one."""
        everything = {trial.number: trial for trial in study._storage.get_all_trials(study._study_id, deepcopy=False)}
        return [_with_its_generation(trial, everything) for trial in super()._get_trials(study)]

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        assert self._sampled is not None
        study, space = self._sampled
        places = _SearchSpaceTransform(space, transform_0_1=True)
        optimizer = self._init_optimizer(places, study.direction)
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        comparable = [t for t in completed_trials if space.keys() <= t.params.keys()]
        while True:
            trials = self._get_solution_trials(comparable, optimizer.generation)[: optimizer.population_size]
            if len(trials) < optimizer.population_size:
                return optimizer
            optimizer.tell([(places.transform(t.params), sign * (t.value or 0.0)) for t in trials])

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        return {}  # nothing to store


def _with_its_generation(trial: FrozenTrial, everything: Mapping[int, FrozenTrial]) -> FrozenTrial:
    """Optuna notes a generation where it samples, and a trial that is repeated is not sampled."""
    first = trial
    while RETRY_OF in first.user_attrs:
        first = everything[first.user_attrs[RETRY_OF]]
    if first is trial:
        return trial
    twin = copy.copy(trial)
    twin.system_attrs = {**first.system_attrs, **trial.system_attrs}
    return twin


def cmaes(seed: int) -> Cmaes:
    """CMA-ES in Optuna's form, with the package cmaes; categorical hyperparameters stay random."""
    require("cmaes", "cmaes>=0.10", "the optimizer 'optuna:cmaes'")
    return Cmaes(seed)


cmaes.needs = "cmaes"  # type: ignore[attr-defined]
