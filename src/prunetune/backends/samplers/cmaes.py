"""CMA-ES by the package cmaes, begun with Sobol points; the whole state is told again for every trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cmaes import CMA
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial

from prunetune._utils.seeds import derive_seed
from prunetune.backends.samplers.history import score_of, sign_of
from prunetune.backends.samplers.stateless import STARTUP, SobolSampler
from prunetune.backends.samplers.unit_cube import UnitCube
from prunetune.backends.study.trial import repeated

GENERATION: Final = "cma:generation"
"""The trial's system attribute, as Optuna's ``CmaEsSampler`` calls it."""


class Cmaes(SobolSampler):
    """Covariance matrix adaptation after ten Sobol points, the best of which are its first generation.

    Begun around the centre of the space instead, it takes a whole population to see that the centre is no good.
    Categorical hyperparameters, and those that not every trial has, stay points of the Sobol sequence.

    Optuna's own sampler stores a pickled optimizer in the study and unpickles what it finds there. A study may come
    from a stranger, so this one stores the number of a trial's generation only, and tells the optimizer all
    generations again.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The numbers that all trials have in common."""
        common = IntersectionSearchSpace(include_pruned=True).calculate(study)
        return {
            name: each
            for name, each in common.items()
            if not each.single() and not isinstance(each, CategoricalDistribution)
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the next generation, or of one that is not full yet; nothing before the tenth score."""
        scored = _scored_trials(study)
        if not search_space or len(scored) < STARTUP:
            return {}
        cube = UnitCube(search_space)
        optimizer = _told_again(cube, [each for each in scored if search_space.keys() <= each.params.keys()])
        random = np.random.RandomState(derive_seed(self.seed, "cmaes", self.draw(study, trial)))
        random.randint(1, 2**31 - 2)  # Optuna's sampler draws this one, too: a seed keeps its trials
        optimizer.reseed_rng(random.randint(1, 2**16))
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, optimizer.generation)
        return cube.from_unit(optimizer.ask())

    def note(self, space: Mapping[str, BaseDistribution], n_trials: int) -> str:
        """What it will not learn about."""
        names = [
            name
            for name, distribution in space.items()
            if isinstance(distribution, CategoricalDistribution) and not distribution.single()
        ]
        if not names or n_trials <= STARTUP:
            return ""
        return (
            f"learns about numbers only; the choices of {', '.join(names)} are all tried equally often. If some "
            "choices are much better than others, take 'tpe'"
        )


@dataclass(frozen=True)
class _Scored:
    """A trial that has a score, also one that was stopped: without these it learns nothing beside Hyperband."""

    params: Mapping[str, Any]
    loss: float
    generation: int


def _scored_trials(study: Study) -> list[_Scored]:
    """The trials of the study, or of the trial's bracket if that is what Hyperband shows."""
    sign = sign_of(study)
    everything = {trial.number: trial for trial in study._storage.get_all_trials(study._study_id, deepcopy=False)}
    scores = [(trial, score_of(trial)) for trial in study.get_trials(deepcopy=False)]
    return [
        _Scored(trial.params, sign * score if math.isfinite(score) else math.inf, _generation(trial, everything))
        for trial, score in scores
        if score is not None
    ]


def _generation(trial: FrozenTrial, everything: Mapping[int, FrozenTrial]) -> int:
    """The generation that the trial was asked for in, or else the trial that it repeats; 0 if it was not asked for."""
    family = [trial, *reversed(repeated(trial, everything))]
    return next((each.system_attrs[GENERATION] for each in family if GENERATION in each.system_attrs), 0)


def _told_again(cube: UnitCube, scored: list[_Scored]) -> CMA:
    """The optimizer after all full generations.

    Trials of no generation may be more than a population, for a study may begin with what another was told: the best
    of them are the first.
    """
    optimizer = CMA(np.full(cube.size, 0.5), 1 / 6, np.tile([0.0, 1.0], (cube.size, 1)), 10 * cube.size)
    while True:
        members = [each for each in scored if each.generation == optimizer.generation]
        if optimizer.generation == 0:
            members.sort(key=lambda each: each.loss)
        if len(members) < optimizer.population_size:
            return optimizer
        optimizer.tell([(cube.to_unit(each.params), each.loss) for each in members[: optimizer.population_size]])


def cmaes(seed: int) -> Cmaes:
    """Covariance matrix adaptation (Hansen & Ostermeier 2001), after ten Sobol points."""
    return Cmaes(seed)
