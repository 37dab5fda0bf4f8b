"""How much is to go for a training step that is so many times faster: predicted, then measured until it is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from prunetune.engine.selection import Mask, Ranking
from prunetune.pruned import Measurement

Predict: TypeAlias = Callable[[Mask], float]
"""Seconds of a training step of what a mask leaves; only ratios are used."""

Measure: TypeAlias = Callable[[int], Measurement]
"""Measures what is left when so many units of a ranking have gone."""

TOLERANCE = 0.03
"""Relative: as near as two measurements of one network come to each other."""
ATTEMPTS = 8


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

    Each measurement corrects the prediction, by a factor, and narrows down where to look; where the corrected
    prediction points outside of that, the middle is taken. Ends within `TOLERANCE`, after `ATTEMPTS`, or when nothing
    is left between what is too slow and what is too fast; if even the last place is too slow, that is what is returned.
    """
    slow, fast = -1, len(ranking) + 1  # too slow, too fast, as far as is known
    met: list[Measurement] = []
    whole = predict(ranking.mask(0))
    factor = 1.0
    while len(met) < ATTEMPTS and fast - slow > 1:
        below = _place(ranking, predict, whole / (factor * target), slow, fast)
        found = measure(below)
        met.append(found)
        if abs(found.speedup / target - 1) <= TOLERANCE:
            return Found(below, tuple(met))
        if found.speedup < target:
            slow = below
        else:
            fast = below
        factor = (found.proxy_seconds / found.base_seconds) / (predict(ranking.mask(below)) / whole)
    nearest = min(met, key=lambda m: abs(m.speedup / target - 1))
    return Found(nearest.units, (*(m for m in met if m is not nearest), nearest))


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
