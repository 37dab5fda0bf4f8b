"""A scrambled Halton sequence (Bousquet et al. 2017, "Critical Hyper-Parameters: No Random, No Cry")."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import qmc

SEED = "prunetune-example:halton-seed"


class Halton(BaseSampler):
    """Points that fill the space more evenly than random ones, each trial the next of one sequence.

    Dimension k of the sequence is the k-th hyperparameter, so the space need not be known beforehand.

    prunetune makes a sampler for every trial, with a seed of that trial's own: whatever a sampler is to remember has to
    be in the study. Here that is the seed of the sequence, the first trial's; where in it to go on is the trial's
    number. So a search that is resumed goes on with the same sequence.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if SEED not in study._storage.get_study_user_attrs(study._study_id):  # as Optuna's own samplers do: beside
            study._storage.set_study_user_attr(
                study._study_id, SEED, self.seed
            )  # Hyperband a study has no `user_attrs`

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}  # one hyperparameter after the other

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        dimension = len(trial.params)  # those before it
        seed = study._storage.get_study_user_attrs(study._study_id)[SEED]
        sequence = qmc.Halton(dimension + 1, scramble=True, rng=seed).fast_forward(trial.number)
        return value_at(float(sequence.random()[0, dimension]), param_distribution)


def value_at(u: float, distribution: BaseDistribution) -> Any:
    """The value below which a share u of the distribution lies, 0 <= u < 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        around = 0.5 if isinstance(distribution, IntDistribution) else 0.0  # what is rounded to the ends
        start, end = math.log(low - around), math.log(high + around)
        value = min(max(math.exp(start + u * (end - start)), low), high)
    elif step:
        value = low + step * int(u * (round((high - low) / step) + 1))
    else:
        value = low + u * (high - low)
    return round(value) if isinstance(distribution, IntDistribution) else value
