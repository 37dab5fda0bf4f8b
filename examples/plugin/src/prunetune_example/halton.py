"""A scrambled Halton sequence (Bousquet et al. 2017, "Critical Hyper-Parameters: No Random, No Cry")."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from prunetune.backends.samplers.stateless import StatelessSampler


class Halton(StatelessSampler):
    """Points that fill the space more evenly than random ones, each trial the next of one sequence.

    Dimension k of the sequence is the k-th hyperparameter, so the space need not be known beforehand.

    A `StatelessSampler` is made once a study, with the study's seed. It remembers nothing: what it suggests follows
    from the seed, the study, and the trial's draw, which counts trials and is the same for one that is killed and the
    one that replaces it. So a search that is resumed goes on with the same sequence.
    """

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        dimension = len(trial.params)  # those before it
        sequence = qmc.Halton(dimension + 1, scramble=True, rng=self.seed).fast_forward(self.draw(study, trial))
        return from_unit(float(sequence.random()[0, dimension]), param_distribution)


def from_unit(u: float, distribution: BaseDistribution) -> Any:
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
