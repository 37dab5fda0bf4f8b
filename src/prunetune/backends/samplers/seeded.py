"""Randomness that depends on the seed and a trial's draw alone, so that stopping and resuming changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler

from prunetune._utils.seeds import derive_seed
from prunetune.backends import SamplerFactory, optimizers
from prunetune.backends.given import Given
from prunetune.backends.samplers.stateless import StatelessSampler
from prunetune.registry import build

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState


def sampler(name: str, seed: int) -> BaseSampler:
    """The optimizer ``name`` as a stateless Optuna sampler, for the tuner or for a study of the user's own.

    One that is ``Given`` is as it is. Raises InputError for an unknown name, one whose library is missing, and one that
    is broken in its library.

    Example
    -------
    >>> import optuna
    >>> study = optuna.create_study(sampler=sampler("random", seed=0))
    >>> study.sampler
    SeededSampler('random', seed=0)
    """
    if isinstance(name, Given):
        found: BaseSampler = name.thing
        return found
    made = build(optimizers, name, BaseSampler, derive_seed(seed, "sampler", 0))
    return made if isinstance(made, StatelessSampler) else SeededSampler(name, optimizers[name], seed, made)


class SeededSampler(StatelessSampler):
    """A sampler without memory: before each trial it is built afresh, seeded by (seed, the trial's draw).

    What it suggests is a function of the study's history, the seed and the draw. Nothing has to be pickled, and a study
    that is resumed goes on as it would have (a seeded sampler of Optuna's repeats its first points).
    """

    def __init__(self, name: str, factory: SamplerFactory, seed: int, example: BaseSampler) -> None:
        super().__init__(seed)
        self.learns_from_stopped = getattr(example, "learns_from_stopped", True)
        self._name = name
        self._factory = factory
        self._live: dict[int, BaseSampler] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, seed={self.seed})"

    def _build(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        inner = self._factory(derive_seed(self.seed, "sampler", self.draw(study, trial)))
        self._live[trial.number] = inner
        return inner

    def _of(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        return self._live.get(trial.number) or self._build(study, trial)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Build the inner sampler for ``trial``."""
        super().before_trial(study, trial)
        self._build(study, trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The inner sampler's answer."""
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The inner sampler's answer."""
        return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The inner sampler's answer."""
        return self._of(study, trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Drop the inner sampler of ``trial``; one that this process never built (a killed one's) has nothing to do."""
        super().after_trial(study, trial, state, values)
        inner = self._live.pop(trial.number, None)
        if inner is not None:
            inner.after_trial(study, trial, state, values)
