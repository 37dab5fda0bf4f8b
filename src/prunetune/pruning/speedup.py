"""How much is to go for a training step that is so many times faster: predicted, then measured until it is true.

Predicted are seconds by three sizes of a network (decision 12); what was measured corrects that for what comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from prunetune.engine import DependencyGraph
from prunetune.engine.cost import cost_of
from prunetune.engine.selection.ranking import Mask, Ranking
from prunetune.pruning.result import Measurement

Predict: TypeAlias = Callable[[Mask], float]
"""Seconds of a training step of what a mask leaves, as a share of the full network's."""

SECONDS_A_FLOP: Final = 2.5e-11
SECONDS_A_BYTE: Final = 1.05e-9
SECONDS_AN_OPERATION: Final = 4e-4
"""Fitted to networks and cuts of them on one thread (`benchmarks.step_time`): FLOPs of a forward pass, bytes of
activations, operations that make a tensor. Only their ratios matter; where a device has others, what is measured first
says so."""

POWERS: Final = (0.25, 4.0)
"""Beyond these a measurement says more of itself than of the prediction."""

TOLERANCE = 0.03
"""Relative: as near as two measurements of one network come to each other."""
ATTEMPTS = 12
"""On one network, before the nearest is taken."""


def predicted_seconds(graph: DependencyGraph, keep: Mask) -> float:
    """Seconds of a training step of what `keep` leaves, on one thread of the CPU that the sizes were weighed on."""
    cost, operations = cost_of(graph, keep), len(graph.activations)
    by_size = SECONDS_A_FLOP * cost.flops + SECONDS_A_BYTE * cost.activations
    return by_size + SECONDS_AN_OPERATION * operations


class Correction:
    """What predicted shares of the full network's time really are: a power of them, by what was measured last.

    A power keeps the full network at 1 and the order of all cuts, whatever noise was measured.

    >>> correction = Correction()
    >>> correction.learn(0.1, 0.01)  # a tenth was predicted, and it was a hundredth
    >>> round(correction(0.1), 3), round(correction(0.5), 3), correction(1.0)
    (0.01, 0.25, 1.0)
    """

    def __init__(self) -> None:
        self.power = 1.0

    def learn(self, predicted: float, measured: float) -> None:
        """Make this share right; one that was predicted as the full network's says nothing of others."""
        if predicted < 1:
            self.power = float(np.clip(np.log(measured) / np.log(predicted), *POWERS))

    def __call__(self, predicted: float) -> float:
        """The share of the full network's time."""
        return float(predicted**self.power)


@dataclass
class Bracket:
    """What is known of one ranking: how many units must go at least and at most, and all that was measured."""

    ranking: Ranking
    target: float
    """How many times faster."""
    met: list[Measurement] = field(default_factory=list)
    slow: int = -1
    """The most units of which it is known that more must go."""
    fast: int = field(init=False)

    def __post_init__(self) -> None:
        self.fast = len(self.ranking) + 1

    def next(self, predict: Predict) -> int:
        """How many units to try next: where the prediction points; where that is outside, by what was measured.

        From the fourth on, every second time it is the middle: nothing is right for ever.
        """
        low, high, share = self.slow + 1, self.fast - 1, 1 / self.target
        if len(self.met) > 1 and len(self.met) % 2:
            return (self.slow + self.fast) // 2
        if predict(self.ranking.mask(high)) > share:
            return self._between() if self.has_fast else high
        if self.slow >= 0 and predict(self.ranking.mask(low)) <= share:
            return self._between()
        while low < high:
            middle = (low + high) // 2
            if predict(self.ranking.mask(middle)) <= share:
                high = middle
            else:
                low = middle + 1
        return high

    def _between(self) -> int:
        """Where the line through both ends has the target, in logarithms of how many times faster they are."""
        known = {-1: 1.0, **{found.units: found.speedup for found in self.met}}
        if self.fast not in known:
            return (self.slow + self.fast) // 2
        slow, fast = np.log(known[self.slow]), np.log(known[self.fast])
        way = (np.log(self.target) - slow) / (fast - slow) if fast > slow else 0.5
        return int(np.clip(round(self.slow + way * (self.fast - self.slow)), self.slow + 1, self.fast - 1))

    def add(self, found: Measurement) -> None:
        """Learn how fast it is where so many units have gone."""
        self.met.append(found)
        if found.speedup < self.target:
            self.slow = max(self.slow, found.units)
        else:
            self.fast = min(self.fast, found.units)

    @property
    def nearest(self) -> Measurement:
        """The measurement that came nearest."""
        return min(self.met, key=lambda found: abs(found.speedup / self.target - 1))

    @property
    def is_met(self) -> bool:
        """Whether the speed-up was found; where time has steps, as a GPU's has, the nearest of both sides counts."""
        near = bool(self.met) and abs(self.nearest.speedup / self.target - 1) <= TOLERANCE
        return near or (self.is_over and self.has_fast)

    @property
    def has_fast(self) -> bool:
        """Whether something was at least as fast as asked for."""
        return self.fast <= len(self.ranking)

    @property
    def is_too_small(self) -> bool:
        """Whether the whole network, of which nothing has gone, is faster than asked for."""
        return self.fast == 0 and self.nearest.speedup > self.target * (1 + TOLERANCE)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be tried."""
        return self.fast - self.slow <= 1 or len(self.met) >= ATTEMPTS


__all__ = ["ATTEMPTS", "TOLERANCE", "Bracket", "Correction", "Predict", "predicted_seconds"]
