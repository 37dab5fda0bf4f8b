"""Hyperparameters as points of the unit cube, which is what Nevergrad's and scikit-optimize's methods work on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Point: TypeAlias = NDArray[np.float64]


def from_unit(u: float, distribution: BaseDistribution) -> Any:
    """The value below which a share u of the distribution lies, a plain Python one within its bounds.

    >>> from_unit(0.25, FloatDistribution(-1.0, 1.0)), from_unit(0.99, IntDistribution(1, 4))
    (-0.5, 4)
    """
    u = min(max(float(u), 0.0), 1.0)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(u * len(distribution.choices)), len(distribution.choices) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if (count := _count(distribution)) is not None:
        step = distribution.step or 1
        value = distribution.low + step * min(int(u * count), count - 1)
    else:
        low, high = _ends(distribution)
        value = math.exp(low + u * (high - low)) if distribution.log else low + u * (high - low)
    if isinstance(distribution, IntDistribution):
        value = round(value)
    return min(max(value, distribution.low), distribution.high)


def to_unit(value: Any, distribution: FloatDistribution | IntDistribution) -> float:
    """Where in 0..1 the value is; of several that ``from_unit`` takes to it, the one in the middle."""
    if (count := _count(distribution)) is not None:
        steps: int = round((value - distribution.low) / (distribution.step or 1))
        return (steps + 0.5) / count
    low, high = _ends(distribution)
    place = ((math.log(value) if distribution.log else float(value)) - low) / (high - low)
    return min(max(place, 0.0), 1.0)  # rounding may lead 1e-16 out of the cube, which scikit-optimize refuses


def _count(distribution: FloatDistribution | IntDistribution) -> int | None:
    """How many values there are, evenly spaced; None where they are not countable, or not even."""
    if distribution.log or distribution.step is None:
        return None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _ends(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Of a logarithmic range of whole numbers, half a number more at each end: what is rounded to it."""
    around = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - around, distribution.high + around
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


class UnitCube:
    """A coordinate in 0..1 for each number, and for each choice of a categorical hyperparameter one.

    >>> cube = UnitCube({"n": IntDistribution(1, 4), "c": CategoricalDistribution(["a", "b"])})
    >>> cube.to_unit({"n": 2, "c": "b"})
    array([0.375, 0.   , 1.   ])
    >>> cube.from_unit(np.array([0.4, 0.3, 0.6]))
    {'n': 2, 'c': 'b'}
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.space = dict(space)

    @property
    def size(self) -> int:
        """How many coordinates there are."""
        return sum(_width(distribution) for distribution in self.space.values())

    def to_unit(self, params: Mapping[str, Any]) -> Point:
        """The point of these values; others than the space's are ignored."""
        point: list[float] = []
        for name, distribution in self.space.items():
            if isinstance(distribution, CategoricalDistribution):
                chosen = distribution.to_internal_repr(params[name])
                point += [float(position == chosen) for position in range(len(distribution.choices))]
            else:
                assert isinstance(distribution, FloatDistribution | IntDistribution)
                point.append(to_unit(params[name], distribution))
        return np.array(point, dtype=np.float64)

    def from_unit(self, point: Point) -> dict[str, Any]:
        """The values at a point, plain Python ones; what lies outside is moved to the bounds."""
        values, start = {}, 0
        for name, distribution in self.space.items():
            part = point[start : start + _width(distribution)]
            start += len(part)
            if isinstance(distribution, CategoricalDistribution):
                values[name] = distribution.choices[int(np.argmax(part))]
            else:
                values[name] = from_unit(float(part[0]), distribution)
        return values


def _width(distribution: BaseDistribution) -> int:
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 1
