"""scikit-optimize's models: a Gaussian process, random forests, extremely randomized trees; fitted for every trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from prunetune._utils.extras import require
from prunetune._utils.quiet import quietly
from prunetune._utils.seeds import derive_seed
from prunetune.backends.samplers.history import Observation
from prunetune.backends.samplers.stateless import CubeSampler
from prunetune.backends.samplers.unit_cube import Point, UnitCube

Estimator: TypeAlias = Literal["GP", "RF", "ET"]


class SkoptSampler(CubeSampler):
    """The point where a model of all trials so far expects most; ten Sobol points come first.

    A trial that still runs is told as the best score so far ("constant liar", Ginsbourger et al. 2010): otherwise all
    who ask in the meantime get the same point.
    """

    def __init__(self, estimator: Estimator, seed: int) -> None:
        super().__init__(seed)
        self.estimator: Estimator = estimator

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.estimator!r}, seed={self.seed})"

    def suggest(self, cube: UnitCube, history: Sequence[Observation], draw: int) -> Point:
        """Where the acquisition function is highest."""
        from skopt import Optimizer

        scored = [(cube.to_unit(each.params).tolist(), each.loss) for each in history if each.loss is not None]
        points, losses = [point for point, _ in scored], [loss for _, loss in scored]
        running = [t.params for t in history if t.running and cube.space.keys() <= t.params.keys()]
        points += [cube.to_unit(params).tolist() for params in running]
        losses += [min(losses)] * len(running)
        with quietly():  # kernels at their bounds, and places where it has been before
            optimizer = Optimizer(
                [(0.0, 1.0)] * cube.size,
                base_estimator=self.estimator,
                n_initial_points=1,
                random_state=derive_seed(self.seed, "skopt", draw) % 2**31,
                model_queue_size=1,
            )
            optimizer.tell(points, losses)
            return np.clip(np.asarray(optimizer.ask(), dtype=np.float64), 0.0, 1.0)


class SkoptFactory:
    """A factory: called with a seed it makes the sampler."""

    needs = "scikit-optimize"

    def __init__(self, estimator: Estimator, description: str) -> None:
        self.estimator: Estimator = estimator
        self.__doc__ = description

    def __call__(self, seed: int) -> SkoptSampler:
        """The sampler of a study with that seed."""
        require(
            "skopt", "scikit-optimize>=0.10.2", f"scikit-optimize's {self.estimator}, skopt:{NAMES[self.estimator]},"
        )
        return SkoptSampler(self.estimator, seed)


NAMES = {"GP": "gp", "RF": "forest", "ET": "et"}

gp = SkoptFactory("GP", "Bayesian optimization: a Gaussian process, which also learns from trials that were stopped.")
forest = SkoptFactory("RF", "Random forests as the model.")
et = SkoptFactory("ET", "Extremely randomized trees as the model.")
