"""Quasi-random search: a Sobol sequence, which fills the space more evenly than random points do."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from prunetune._utils.quiet import quietly
from prunetune.backends.samplers.stateless import SobolSampler


class Qmc(SobolSampler):
    """Optuna's `QMCSampler`, scrambled by the study's seed, at the place in the sequence that is the trial's draw.

    Optuna counts in the study how many points were drawn, so that a trial that is killed leaves a hole.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All hyperparameters of the first trial."""
        return _At(self.seed, 0).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the sequence."""
        return _At(self.seed, self.draw(study, trial)).sample_relative(study, trial, search_space)


class _At(QMCSampler):
    def __init__(self, seed: int, index: int) -> None:
        with quietly(ExperimentalWarning):
            super().__init__(scramble=True, seed=seed, warn_independent_sampling=False)
        self._index = index

    def _find_sample_id(self, *args: Any) -> int:
        return self._index


def qmc(seed: int) -> Qmc:
    """A scrambled Sobol sequence: like random points, more evenly spread."""
    return Qmc(seed)
