"""What scorers are combined with, by name: how coupled channels' scores become one, and how groups become comparable.

`"magnitude+max+lamp"` is the scorer `magnitude` with the reduction `max` and the normaliser `lamp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunetune.engine import DependencyGraph
from prunetune.errors import InputError

Reduction: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.int64], int], NDArray[np.float64]]
"""`reduce(values, units, n)`: n numbers, entry u made of the values whose unit is u."""

Normaliser: TypeAlias = Callable[[NDArray[np.float64], DependencyGraph], NDArray[np.float64]]
"""`normalise(scores, graph)`: scores of units, shape (unit_count + 1,), from such scores; inf stays inf."""


def mean_over_members(values: NDArray[np.float64], units: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The mean over all channels of a unit: a sum would make large groups hard to prune only for being large.

    >>> mean_over_members(np.array([1.0, 3.0, 5.0]), np.array([1, 1, 2]), 3).tolist()
    [0.0, 2.0, 5.0]
    """
    members = np.bincount(units, minlength=n)
    return sum_over_members(values, units, n) / np.maximum(members, 1)


def sum_over_members(values: NDArray[np.float64], units: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The sum over all channels of a unit: all that goes with it.

    >>> sum_over_members(np.array([1.0, 3.0, 5.0]), np.array([1, 1, 2]), 3).tolist()
    [0.0, 4.0, 5.0]
    """
    total: NDArray[np.float64] = np.bincount(units, weights=values, minlength=n).astype(np.float64)
    return total


def max_over_members(values: NDArray[np.float64], units: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The largest over all channels of a unit: it is worth what its best member is.

    >>> max_over_members(np.array([1.0, 3.0, 5.0]), np.array([1, 1, 2]), 3).tolist()
    [0.0, 3.0, 5.0]
    """
    best = np.full(n, -np.inf)
    np.maximum.at(best, units, values)
    return np.where(np.isneginf(best), 0.0, best)


def gate(values: NDArray[np.float64], units: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The absolute sum over all channels of a unit: with the sums of weight times gradient of each channel, that is
    the derivative of the loss by a gate that multiplies all of them.

    >>> gate(np.array([1.0, -3.0, 5.0]), np.array([1, 1, 2]), 3).tolist()
    [0.0, 2.0, 5.0]
    """
    return np.abs(sum_over_members(values, units, n))


def as_it_is(scores: NDArray[np.float64], graph: DependencyGraph) -> NDArray[np.float64]:
    """No normalisation: one threshold for all groups means what the scores mean."""
    return scores


def by_group_mean(scores: NDArray[np.float64], graph: DependencyGraph) -> NDArray[np.float64]:
    """Each group's scores divided by the mean of their magnitudes, so that every group is worth the same on average."""
    result = scores.copy()
    for units in _judged(scores, graph):
        scale = np.abs(scores[units]).mean()
        result[units] = scores[units] / scale if scale > 0 else 0.0
    return result


def lamp(scores: NDArray[np.float64], graph: DependencyGraph) -> NDArray[np.float64]:
    """Layer-adaptive magnitude (Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning", eq. 3).

    A unit's squared score, as a share of the squares of all units of its group that are worth as much or more; of
    units worth the same, the later one counts as worth more, as in the authors' code.

    Raises
    ------
    InputError
        If a score is negative: squares would turn the order around.
    """
    result = scores.copy()
    for units in _judged(scores, graph):
        own = scores[units]
        if (own < 0).any():
            raise InputError(
                f"lamp needs scores that are not negative; got {own.min():.3g}: take the scorer's absolute form"
            )
        order = np.argsort(own, kind="stable")
        squares = (own[order] / (own.max() or 1.0)) ** 2  # the share is the same, and nothing overflows
        rest = np.cumsum(squares[::-1])[::-1]
        result[units[order]] = squares / np.where(rest > 0, rest, 1.0)
    return result


def _judged(scores: NDArray[np.float64], graph: DependencyGraph) -> list[NDArray[np.int64]]:
    """The units of each group that have a score."""
    groups = [np.asarray(group.units, dtype=np.int64) for group in graph.groups]
    return [units[np.isfinite(scores[units])] for units in groups if np.isfinite(scores[units]).any()]
