"""A grid over the whole space, in an order drawn by the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from prunetune._utils.seeds import derive_seed
from prunetune.backends.samplers.history import common_space, observations
from prunetune.backends.samplers.stateless import StatelessSampler
from prunetune.errors import InputError

POINTS: Final = 5
"""Of a hyperparameter with more values: evenly spaced, on a logarithmic scale if the range is, both ends included."""
MOST_POINTS: Final = 1_000_000


def axis(distribution: BaseDistribution) -> list[Any]:
    """The values of a hyperparameter that are on the grid.

    >>> axis(FloatDistribution(1e-4, 1.0, log=True))
    [0.0001, 0.001, 0.01, 0.1, 1.0]
    >>> axis(IntDistribution(1, 3)), axis(IntDistribution(32, 512, log=True))
    ([1, 2, 3], [32, 64, 128, 256, 512])
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step, low, high = distribution.step, distribution.low, distribution.high
    count = POINTS if step is None else min(POINTS, int((high - low) / step + 1e-8) + 1)
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    values = np.linspace(scale(low), scale(high), count).tolist()
    inner = [back(value) for value in values[1:-1]]
    if step is not None:
        inner = [low + step * round((value - low) / step) for value in inner]
    whole = isinstance(distribution, IntDistribution)
    return list(dict.fromkeys([low, *(round(value) if whole else float(f"{value:.12g}") for value in inner), high]))


class Grid(StatelessSampler):
    """Points of the grid, each once; when all were visited they come again, in the same order.

    Optuna's `GridSampler` has to be given all values beforehand, refuses points of the user's, and stops the study. Of
    a study whose hyperparameters are not known yet, the first trial is a random point of the grid.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What all trials have in common."""
        return common_space(observations(study, trial, self.draw(study, trial)))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The first point from the draw on that no trial has been at."""
        if not search_space:
            return {}
        axes = [axis(distribution) for distribution in search_space.values()]
        shape = tuple(map(len, axes))
        if (total := math.prod(shape)) > MOST_POINTS:
            raise InputError(f"the grid has {total:,} points; take 'optuna:qmc', or search fewer hyperparameters")
        draw = self.draw(study, trial)
        visited = {tuple(each.params.get(name) for name in search_space) for each in observations(study, trial, draw)}
        order = np.roll(np.random.default_rng(self.seed).permutation(total), -draw)  # so that who asks at once differs

        def at(place: int) -> tuple[Any, ...]:
            return tuple(values[k] for values, k in zip(axes, np.unravel_index(place, shape), strict=True))

        point = next((point for point in map(at, order) if point not in visited), at(order[0]))
        return dict(zip(search_space, point, strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The first trial's values, and those of hyperparameters that not every trial has."""
        values = axis(param_distribution)
        return values[derive_seed(self.seed, param_name, self.draw(study, trial)) % len(values)]

    def note(self, space: Mapping[str, BaseDistribution], n_trials: int) -> str:
        """How large the grid is, and what that means for a search of so many trials."""
        counts = {name: len(axis(distribution)) for name, distribution in space.items()}
        total = math.prod(counts.values())
        rest = f"{total - n_trials:,} of them are not tried" if total > n_trials else ""
        rest = f"the last {n_trials - total} trials repeat the first" if total < n_trials else rest
        values = ", ".join(f"{count} of {name}" for name, count in counts.items())
        end = f"; {rest} in {n_trials} trials" if rest else ""
        return f"the grid has {total:,} points ({values}; {POINTS} of a range){end}"


def grid(seed: int) -> Grid:
    """Every point of a grid once, in random order; five values of a range, all of a list."""
    return Grid(seed)
