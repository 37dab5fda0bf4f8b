"""CMA-ES by the package cmaes, begun with Sobol points; its state is what all trials so far tell."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

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
    from a stranger, so this one stores the number of a trial's generation only, and tells an optimizer all generations
    again; a live process keeps that one as long as the history goes on from what it was told.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._told: _Told | None = None
        self._lock = threading.Lock()

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
        random = np.random.RandomState(derive_seed(self.seed, "cmaes", self.draw(study, trial)))
        random.randint(1, 2**31 - 2)  # Optuna's sampler draws this one, too: a seed keeps its trials
        with self._lock:
            optimizer = self._told_all(cube, [each for each in scored if search_space.keys() <= each.params.keys()])
            optimizer.reseed_rng(random.randint(1, 2**16))
            generation, point = optimizer.generation, optimizer.ask()
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, generation)
        return cube.from_unit(point)

    def _told_all(self, cube: UnitCube, scored: Sequence[_Scored]) -> CMA:
        """The optimizer after all full generations; told anew where they do not go on from what the last one knew."""
        if self._told is None or [*self._told.cube.space.items()] != [*cube.space.items()]:
            self._told = _Told.nothing(cube)
        generations = _full_generations(scored, self._told.optimizer.population_size)
        if not self._told.leads_to(generations):
            self._told = _Told.nothing(cube)
        self._told.tell(generations)
        return self._told.optimizer

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


@dataclass
class _Told:
    """An optimizer, and the generations that it was told."""

    cube: UnitCube
    optimizer: CMA
    generations: list[list[_Scored]] = field(default_factory=list)

    @classmethod
    def nothing(cls, cube: UnitCube) -> Self:
        return cls(cube, CMA(np.full(cube.size, 0.5), 1 / 6, np.tile([0.0, 1.0], (cube.size, 1)), 10 * cube.size))

    def leads_to(self, generations: Sequence[Sequence[_Scored]]) -> bool:
        """Whether these are what it was told, and perhaps more."""
        return self.generations == generations[: len(self.generations)]

    def tell(self, generations: Sequence[list[_Scored]]) -> None:
        """Tell those that are new."""
        for members in generations[len(self.generations) :]:
            self.optimizer.tell([(self.cube.to_unit(each.params), each.loss) for each in members])
            self.generations.append(members)


def _full_generations(scored: Sequence[_Scored], population: int) -> list[list[_Scored]]:
    """Those with as many members as a population, up to the first that has fewer.

    Trials of no generation may be more than a population, for a study may begin with what another was told: the best
    of them are the first.
    """
    members: dict[int, list[_Scored]] = {}
    for each in scored:
        members.setdefault(each.generation, []).append(each)
    members.get(0, []).sort(key=lambda each: each.loss)
    full = itertools.takewhile(lambda number: len(members.get(number, ())) >= population, itertools.count())
    return [members[number][:population] for number in full]


def cmaes(seed: int) -> Cmaes:
    """Covariance matrix adaptation (Hansen & Ostermeier 2001), after ten Sobol points."""
    return Cmaes(seed)
