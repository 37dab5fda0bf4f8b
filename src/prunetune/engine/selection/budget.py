"""Which units stay for a budget of FLOPs or parameters: the largest network of a ranking that is within it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from prunetune.engine.cost import Cost, cost_of
from prunetune.engine.dependency import DependencyGraph
from prunetune.engine.selection.ranking import Mask, Ranking, Scores
from prunetune.errors import BudgetError, InputError

Quantity: TypeAlias = Literal["flops", "params"]
COUNTS: dict[Quantity, Callable[[Cost], int]] = {"flops": lambda c: c.flops, "params": lambda c: c.parameters}
FLOOR_OF_FLOORS = 1e-9
MOST_REASONS = 3
"""Of what is frozen, so many are named in an error."""


def by_cost(
    graph: DependencyGraph,
    scores: Scores,
    quantity: Quantity,
    share: float,
    *,
    floor: float,
    protect: Sequence[str] = (),
    multiple_of: int = 1,
    base: Cost | None = None,
) -> Mask:
    """The most units, best first, with which the network needs no more than `share` of the FLOPs or parameters.

    Parameters
    ----------
    scores
        Shape (graph.unit_count + 1,); entry 0 is not read.
    quantity
        `"flops"` of a forward pass, or `"params"`.
    share
        Over 0 and at most 1, of what `base` needs.
    floor, protect, multiple_of
        As in `by_percentile`.
    base
        What `share` is a share of; the whole network of `graph` unless given.

    Raises
    ------
    InputError
        For a value out of range.
    BudgetError
        If it cannot be reached: with the nearest share that can, and what is in the way.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise InputError(f"{quantity} must be over 0 and at most 1 (the share that stays); got {share!r}")
    count = COUNTS[quantity]
    whole = count(base or cost_of(graph, Ranking(graph, scores, floor=1, protect=(), multiple_of=1).mask(0)))

    def left(keep: Mask) -> float:
        return count(cost_of(graph, keep)) / whole

    ranking = Ranking(graph, scores, floor=floor, protect=protect, multiple_of=multiple_of)
    keep = largest_within(ranking, left, share)
    if keep is None:
        nearest = left(ranking.mask(len(ranking)))
        why = limits(ranking, scores, protect, left)
        raise BudgetError(f"{quantity}={share:g} cannot be reached: the least is {nearest:.3g}; {why}", nearest)
    return keep


def largest_within(ranking: Ranking, value: Callable[[Mask], float], target: float) -> Mask | None:
    """The mask of the most units whose `value` is at most `target`; None if even the smallest is over it."""
    below = position_within(ranking, value, target)
    return None if below is None else ranking.mask(below)


def position_within(ranking: Ranking, value: Callable[[Mask], float], target: float) -> int | None:
    """The least position of a ranking at which `value`, which falls as units go, is at most `target`."""
    low, high = 0, len(ranking)  # invariant: within at high
    if value(ranking.mask(high)) > target:
        return None
    while low < high:
        middle = (low + high) // 2
        if value(ranking.mask(middle)) <= target:
            high = middle
        else:
            low = middle + 1
    return high


def limits(ranking: Ranking, scores: Scores, protect: Sequence[str], value: Callable[[Mask], float]) -> str:
    """What keeps the smallest network of a ranking from being smaller, with what could be had without it."""
    graph, least = ranking.graph, value(ranking.mask(len(ranking)))

    def without(floor: float, protected: Sequence[str], multiple_of: int) -> float:
        other = Ranking(graph, scores, floor=floor, protect=protected, multiple_of=multiple_of)
        return value(other.mask(len(other)))

    relaxed = {
        f"floor={ranking.floor:g}": without(FLOOR_OF_FLOORS, protect, ranking.multiple_of),
        f"protect={list(protect)}": without(ranking.floor, (), ranking.multiple_of),
        f"multiple_of={ranking.multiple_of}": without(ranking.floor, protect, 1),
    }
    found = [
        f"{what} (without it {reached:.3g})"
        for what, reached in sorted(relaxed.items(), key=lambda item: item[1])
        if reached < least * 0.999
    ]
    found.extend(
        f"{f.node} keeps {f.channels} channels: {f.reason}"
        for f in sorted(graph.frozen, key=lambda f: -f.channels)[:MOST_REASONS]
    )
    return "what limits it: " + "; ".join(found) if found else "every group is at its last channel"


__all__ = ["Quantity", "by_cost", "largest_within", "limits", "position_within"]
