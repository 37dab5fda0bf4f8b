"""Optuna's Gaussian process."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from prunetune._utils.quiet import quietly


class Gp(GPSampler):
    """Optuna's, which looks at completed trials only."""

    learns_from_stopped = False

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Optuna's answer."""
        # a trial that diverges before there is any score is told as infinity; to Optuna that is the worst score
        with quietly(UserWarning, "Clip non-finite values"):
            return super().sample_relative(study, trial, search_space)


def gp(seed: int) -> Gp:
    """Bayesian optimization, Optuna's Gaussian process: learns from trials that ran to their end, no others."""
    return Gp(seed)
