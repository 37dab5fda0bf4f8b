"""Randomness that depends on the seed and the trial's number alone, so that stopping and resuming changes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler

from prunetune.backends import SamplerFactory, optimizers
from prunetune.registry import build

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState


def derive_seed(seed: int, stream: str, number: int) -> int:
    """A seed, 0..2**32 - 1, for item ``number`` of ``stream``; different streams and numbers are independent.

    It is numpy's ``SeedSequence`` of the three, ``stream`` as its CRC-32.
    """
    return int(np.random.SeedSequence([seed, zlib.crc32(stream.encode()), number]).generate_state(1)[0])


def sampler(name: str, seed: int) -> BaseSampler:
    """The optimizer ``name`` as a stateless Optuna sampler, for the tuner or for a study of the user's own.

    Example
    -------
    >>> import optuna
    >>> study = optuna.create_study(sampler=sampler("random", seed=0))
    >>> study.sampler
    SeededSampler('random', seed=0)
    """
    build(optimizers, name, BaseSampler, derive_seed(seed, "sampler", 0))  # what cannot be built says so before a trial
    return SeededSampler(name, optimizers[name], seed)


class SeededSampler(BaseSampler):
    """A sampler without memory: before each trial it is built afresh, seeded by (seed, trial number).

    What it suggests is a function of the study's history, the seed and the trial's number. Nothing has to be pickled,
    and a study that is resumed goes on as it would have (a seeded sampler of Optuna's repeats its first points).
    """

    def __init__(self, name: str, factory: SamplerFactory, seed: int) -> None:
        self._name = name
        self._factory = factory
        self._seed = seed
        self._live: dict[int, BaseSampler] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, seed={self._seed})"

    def _build(self, trial: FrozenTrial) -> BaseSampler:
        inner = self._factory(derive_seed(self._seed, "sampler", trial.number))
        self._live[trial.number] = inner
        return inner

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        return self._live.get(trial.number) or self._build(trial)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Build the inner sampler for ``trial``."""
        self._build(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The inner sampler's answer."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The inner sampler's answer."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The inner sampler's answer."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Drop the inner sampler of ``trial``; one that this process never built (a killed one's) has nothing to do."""
        inner = self._live.pop(trial.number, None)
        if inner is not None:
            inner.after_trial(study, trial, state, values)
