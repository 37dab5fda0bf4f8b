"""How much is to go for a training step that is so many times faster: predicted, then measured until it is true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from prunetune.engine.selection.ranking import Mask, Ranking
from prunetune.pruning.result import Measurement

Predict: TypeAlias = Callable[[Mask], float]
"""Seconds of a training step of what a mask leaves; only ratios are used."""

Measure: TypeAlias = Callable[[int], Measurement]
"""Measures what is left when so many units of a ranking have gone."""

TOLERANCE = 0.03
"""Relative: as near as two measurements of one network come to each other."""
ATTEMPTS = 12


@dataclass(frozen=True)
class Found:
    """A place in a ranking, and all that was measured on the way to it, it last."""

    below: int
    measurements: tuple[Measurement, ...]

    @property
    def speedup(self) -> float:
        """What was measured there."""
        return self.measurements[-1].speedup


def find_speedup(ranking: Ranking, target: float, predict: Predict, measure: Measure) -> Found:
    """The place in a ranking whose network is measured to be `target` times faster, or the nearest that was met.

    Each measurement corrects the prediction and narrows down where to look; where the corrected prediction points
    outside of that, and every second time, the middle is taken. Ends within `TOLERANCE`, after `ATTEMPTS`, or when
    nothing is left between what is too slow and what is too fast.
    """
    slow, fast = -1, len(ranking) + 1  # too slow, too fast, as far as is known
    met: list[Measurement] = []
    whole = predict(ranking.mask(0))
    known: list[tuple[float, float]] = []  # what was predicted, and what was measured there, as shares of the base
    while len(met) < ATTEMPTS and fast - slow > 1:
        below = _place(ranking, lambda keep: _corrected(predict(keep) / whole, known), 1 / target, slow, fast)
        if len(met) > 1 and len(met) % 2:  # no correction is right for ever
            below = (slow + fast) // 2
        found = measure(below)
        met.append(found)
        known.append((predict(ranking.mask(below)) / whole, 1 / found.speedup))
        if abs(found.speedup / target - 1) <= TOLERANCE:
            return Found(below, tuple(met))
        if found.speedup < target:
            slow = below
        else:
            fast = below
    nearest = min(met, key=lambda m: abs(m.speedup / target - 1))
    return Found(nearest.units, (*(m for m in met if m is not nearest), nearest))


def _corrected(share: float, known: Sequence[tuple[float, float]]) -> float:
    """A prediction in the light of others: between two of them on the line that joins them, else by a factor."""
    if not known:
        return share
    points = sorted(known)
    if share <= points[0][0] or share >= points[-1][0]:
        predicted, measured = points[0] if share <= points[0][0] else points[-1]
        return share * measured / predicted
    predictions, measurements = np.array(points).T
    return float(np.interp(share, predictions, measurements))


def _place(ranking: Ranking, value: Predict, target: float, slow: int, fast: int) -> int:
    """The first place strictly between `slow` and `fast` whose value is at most `target`; if none, see above."""
    low, high = slow + 1, fast - 1
    if value(ranking.mask(high)) > target:
        return high if fast > len(ranking) else (low + high) // 2
    if slow >= 0 and value(ranking.mask(low)) <= target:
        return (low + high) // 2
    while low < high:
        middle = (low + high) // 2
        if value(ranking.mask(middle)) <= target:
            high = middle
        else:
            low = middle + 1
    return high


__all__ = ["ATTEMPTS", "TOLERANCE", "Found", "Measure", "Predict", "find_speedup"]
