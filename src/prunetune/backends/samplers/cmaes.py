"""Optuna's CMA-ES, begun with Sobol points, and without its pickles."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import CmaEsSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from prunetune._utils.quiet import quietly
from prunetune._utils.seeds import derive_seed
from prunetune.backends.samplers.stateless import STARTUP, SobolSampler
from prunetune.backends.study.trial import repeated


class Cmaes(SobolSampler):
    """Optuna's sampler after ten Sobol points, the best of which are its first generation.

    Optuna's own begins around the centre of the space, which takes a population to be seen to be no good. Categorical
    hyperparameters, and those that not every trial has, stay points of the Sobol sequence.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seed={self.seed})"

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The numbers that all trials have in common."""
        return Replayed(self.seed).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the next generation, or of one that is not full yet; nothing before the tenth score."""
        seed = derive_seed(self.seed, "cmaes", self.draw(study, trial))
        return Replayed(seed).sample_relative(study, trial, search_space)

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
            f"learns about numbers only; {', '.join(names)} {'is' if len(names) == 1 else 'are'} tried evenly all "
            "along. If good and bad choices are far apart, take 'tpe'"
        )


class Replayed(CmaEsSampler):
    """Optuna's sampler stores a pickled optimizer in the study, and unpickles what it finds there.

    A study may come from a stranger, and what an optimizer knows is what it was told: so here it is told again, one
    generation after the other. The first is the best of what came before the sampler was asked.
    """

    def __init__(self, seed: int) -> None:
        with quietly(ExperimentalWarning):
            super().__init__(
                seed=seed,
                n_startup_trials=STARTUP,
                consider_pruned_trials=True,  # without them it learns nothing beside Hyperband
                warn_independent_sampling=False,
            )
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

    def _get_solution_trials(self, trials: list[FrozenTrial], generation: int) -> list[FrozenTrial]:
        """A generation. Optuna's first are trials that were asked for; here the best come first of all that have none.

        These may be more than a population: a study may begin with what another was told.
        """
        members = [t for t in trials if t.system_attrs.get(self._attr_key_generation, 0) == generation]
        if generation == 0:
            assert self._sampled is not None
            maximize = self._sampled[0].direction == StudyDirection.MAXIMIZE
            members.sort(key=lambda trial: trial.value or 0.0, reverse=maximize)
        return members

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
    before = repeated(trial, everything)
    if not before:
        return trial
    twin = copy.copy(trial)
    twin.system_attrs = {**before[-1].system_attrs, **trial.system_attrs}
    return twin


def cmaes(seed: int) -> Cmaes:
    """Covariance matrix adaptation (Hansen & Ostermeier 2001) in Optuna's form, after ten Sobol points."""
    return Cmaes(seed)
