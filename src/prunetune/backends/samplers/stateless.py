"""Samplers of ours: what they suggest is a function of the study's history, the seed, and the trial's draw."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from optuna.samplers import BaseSampler

from prunetune.backends.samplers.history import Observation, claim_draw, common_space, observations
from prunetune.backends.samplers.unit_cube import Point, UnitCube, from_unit

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

STARTUP: Final = 10
"""Trials with a score before a model of them is worth asking, as in Optuna's samplers."""

_sobol_lock = threading.Lock()  # SciPy's engine is not safe among threads


class StatelessSampler(BaseSampler):
    """A sampler without memory, made once a study with the study's seed, and not, as others, anew for every trial.

    A subclass has `sample_independent`, and the other two if it suggests hyperparameters together.

    Attributes
    ----------
    learns_from_stopped
        Whether trials that a trial pruner stopped teach it anything.
    """

    learns_from_stopped = True

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._draws: dict[int, int] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Claim a draw for ``trial``."""
        self._draws[trial.number] = claim_draw(study, trial)

    def draw(self, study: Study, trial: FrozenTrial) -> int:
        """The trial's place in the study's random stream, from 0."""
        if trial.number not in self._draws:
            self.before_trial(study, trial)
        return self._draws[trial.number]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: it suggests one hyperparameter after the other, unless a subclass says more."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing together."""
        return {}

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Forget the draw."""
        self._draws.pop(trial.number, None)


class SobolSampler(StatelessSampler):
    """A scrambled Sobol sequence: each trial has the point at the place of its draw.

    Optuna's ``QMCSampler`` counts in the study how many points were drawn, so a killed trial leaves a hole.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seed={self.seed})"

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a Sobol point whose coordinates are the trial's hyperparameters in turn."""
        return from_unit(sobol(self.seed, self.draw(study, trial), len(trial.params)), param_distribution)


class CubeSampler(SobolSampler):
    """A sampler that suggests points of the unit cube, from where all trials so far are in it.

    The first trials, and hyperparameters that not every trial has, are points of a scrambled Sobol sequence.
    """

    startup = STARTUP

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What all trials have in common, once there are enough of them."""
        history = observations(study, trial, self.draw(study, trial))
        if sum(each.loss is not None for each in history) < self.startup:
            return {}
        return common_space(history)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the method suggests."""
        if not search_space:
            return {}
        cube = UnitCube(search_space)
        draw = self.draw(study, trial)
        return cube.from_unit(self.suggest(cube, observations(study, trial, draw), draw))

    @abstractmethod
    def suggest(self, cube: UnitCube, history: Sequence[Observation], draw: int) -> Point:
        """A point, after these trials. Not all that run or failed need have all of the cube's hyperparameters."""


def sobol(seed: int, index: int, dimension: int) -> float:
    """One coordinate of one point of a scrambled Sobol sequence, 0 <= u < 1, both counted from 0."""
    from scipy.stats import qmc  # slow to import

    with _sobol_lock:
        engine = qmc.Sobol(dimension + 1, scramble=True, seed=np.random.default_rng(seed))
        if index:
            engine.fast_forward(index)
        return float(engine.random(1)[0, dimension])
