"""Configurations that cover a space evenly."""

from __future__ import annotations

import warnings
from typing import Any

from scipy.stats import qmc

from prunetune import SearchSpace


def sobol(space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """Points of a scrambled Sobol sequence in a space of floats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sequence is balanced for powers of two only
        cube = qmc.Sobol(len(space), seed=0).random(count)
    return [dict(zip(space, map(_place, space.values(), point), strict=True)) for point in cube.tolist()]


def _place(of: Any, share: float) -> float:
    low, high = float(of.low), float(of.high)
    return low * (high / low) ** share if of.log else low + (high - low) * share
