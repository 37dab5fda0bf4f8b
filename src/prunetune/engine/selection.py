"""Which units stay: from one score a unit to a mask. Every way of choosing returns the same value."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prunetune.engine.dependency import DependencyGraph
from prunetune.errors import InputError

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


def by_percentile(graph: DependencyGraph, scores: Scores, *, percentile: float, floor: float) -> Mask:
    """Algorithm 1 of Lee & Yim (2022): one threshold for all units, and a floor for each group.

    The scores of all units are pooled and sorted ascending; the threshold is the score at position
    floor(percentile / 100 * number of units). What is at or above it stays, and of every group of N units at least
    ceil(floor * N), the best ones.

    Parameters
    ----------
    scores
        Shape (graph.unit_count + 1,); entry 0 is not read.
    percentile
        From 0 (nothing is removed) to below 100.
    floor
        The paper's gamma, over 0 and at most 1.
    """
    if not 0 <= percentile < 100:
        raise InputError(f"percentile must be at least 0 and below 100; got {percentile}")
    if not 0 < floor <= 1:
        raise InputError(f"floor must be over 0 and at most 1; got {floor}")
    pool = np.sort(scores[1:])
    threshold = pool[int(len(pool) * percentile / 100)] if len(pool) else 0.0
    keep = scores >= threshold
    return _with_floor(graph, scores, keep, lambda n: math.ceil(round(floor * n, 9)))


def by_ratio(graph: DependencyGraph, scores: Scores, *, ratio: float) -> Mask:
    """Of every group of N units the best round(ratio * N) stay, at least one."""
    if not 0 < ratio <= 1:
        raise InputError(f"ratio must be over 0 and at most 1 (the share of channels that stays); got {ratio}")
    keep = np.zeros(graph.unit_count + 1, dtype=bool)
    return _with_floor(graph, scores, keep, lambda n: max(1, round(ratio * n)))


def _with_floor(graph: DependencyGraph, scores: Scores, keep: Mask, least: Callable[[int], int]) -> Mask:
    """Also keep the best units of every group that has fewer than `least(number of its units)`."""
    keep[0] = True
    for group in graph.groups:
        units = np.asarray(group.units)
        wanted = max(1, least(len(units)))
        if keep[units].sum() < wanted:
            best = np.argsort(-scores[units], kind="stable")[:wanted]
            keep[units[best]] = True
    return keep
