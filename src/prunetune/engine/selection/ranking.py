"""Which units stay: from one score a unit, or by hand, to a mask. Every way of choosing returns the same value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunetune.engine.dependency import DependencyGraph, Group
from prunetune.engine.selection.names import check_patterns, is_produced_by, lies_on, output_axis, reasons
from prunetune.errors import InputError

Scores: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Ratio: TypeAlias = float | Mapping[str, float]
"""A share of channels, or one for each pattern of layers' names."""


def by_percentile(
    graph: DependencyGraph,
    scores: Scores,
    *,
    percentile: float,
    floor: float,
    protect: Sequence[str] = (),
    multiple_of: int = 1,
) -> Mask:
    """Algorithm 1 of Lee & Yim (2022): one threshold for all units, and a floor for each group.

    The scores of all units are pooled and sorted ascending; the threshold is the score at position
    floor(percentile / 100 * number of units). What is at or above it stays, and of every group of N units at least
    ceil(floor * N), the best ones.

    Parameters
    ----------
    scores
        Shape (graph.unit_count + 1,); entry 0 is not read; units with the score inf are not judged, and stay.
    percentile
        From 0 (nothing is removed) to below 100.
    floor
        The paper's gamma, over 0 and at most 1.
    protect, multiple_of
        As in `by_ratio`; what is protected is not in the pool.

    Raises
    ------
    InputError
        For a value out of range, or a pattern in `protect` that means no layer.
    """
    if not 0 <= percentile < 100:
        raise InputError(f"percentile must be at least 0 and below 100; got {percentile}")
    ranking = Ranking(graph, scores, floor=floor, protect=protect, multiple_of=multiple_of)
    return ranking.mask(int(len(ranking) * percentile / 100))


class Ranking:
    """All units by their scores, and what stays when the first so many of them fall below the threshold.

    The masks are nested: what goes at one threshold goes at every higher one (`multiple_of` may round a group up
    again). Protected groups and units that no scorer has judged (inf) are not in the pool, and stay.

    Parameters
    ----------
    scores
        Shape (graph.unit_count + 1,); entry 0 is not read.
    floor, protect, multiple_of
        As in `by_percentile`.
    """

    def __init__(
        self, graph: DependencyGraph, scores: Scores, *, floor: float, protect: Sequence[str], multiple_of: int
    ) -> None:
        if isinstance(floor, bool) or not 0 < floor <= 1:
            raise InputError(f"floor must be over 0 and at most 1; got {floor}")
        self.graph, self.scores, self.floor, self.multiple_of = graph, scores, floor, multiple_of
        self.groups = _unprotected(graph, protect)
        pool = np.concatenate([scores[list(g.units)] for g in self.groups] or [np.zeros(0)])
        self.pool = np.sort(pool[np.isfinite(pool)])

    def __len__(self) -> int:
        """How many units are in the pool."""
        return len(self.pool)

    def mask(self, below: int) -> Mask:
        """What stays if the threshold is the score at position `below` of the pool, from 0 to all of it."""
        threshold = self.pool[below] if below < len(self.pool) else np.inf

        def number(group: Group) -> int:
            above = int((self.scores[list(group.units)] >= threshold).sum())
            return max(above, math.ceil(round(self.floor * len(group), 9)))

        return _best(self.graph, self.scores, self.groups, number, self.multiple_of)


def by_ratio(
    graph: DependencyGraph, scores: Scores, *, ratio: Ratio, protect: Sequence[str] = (), multiple_of: int = 1
) -> Mask:
    """Of every group of N units the best round(ratio * N) stay, at least one.

    Parameters
    ----------
    scores
        Shape (graph.unit_count + 1,); entry 0 is not read.
    ratio
        Over 0 and at most 1: the share that stays. Or a mapping from patterns of layers' names (`"layer1"`,
        `"features.*.conv"`) to shares: the first pattern that means a layer with the group as its output channels
        decides, and groups that no pattern means stay whole.
    protect
        Patterns of layers that stay as they are, with all their input and output channels.
    multiple_of
        How many channels stay in a layer is a multiple of this, the nearest, where the layer has that many.
    """
    everywhere = not isinstance(ratio, Mapping)
    shares: Mapping[str, float] = {"*": ratio} if everywhere else dict(ratio)  # type: ignore[arg-type,dict-item]
    for pattern, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            where = "" if everywhere else f" for {pattern!r}"
            raise InputError(
                f"ratio{where} must be over 0 and at most 1 (the share of channels that stays); got {share}"
            )
    check_patterns(graph, "ratio", shares)

    def number(group: Group) -> int:
        share = next((s for pattern, s in shares.items() if everywhere or is_produced_by(group, pattern)), 1.0)
        return round(share * len(group))

    return _best(graph, scores, _unprotected(graph, protect), number, multiple_of)


def by_hand(
    graph: DependencyGraph, *, remove: Mapping[str, Any] | None = None, keep: Mapping[str, Any] | None = None
) -> Mask:
    """Name the channels: those to remove, or those of the named layers to keep.

    With a channel goes all that is coupled to it (`graph.groups`); a channel stays if anything coupled to it is kept
    by name.

    Parameters
    ----------
    remove, keep
        For each layer (`"layer1.0.conv1"`) or weight (`"attn.in_proj_weight"`) numbers of its output channels, or a
        mask of them (bool, shape (output channels,)), as a sequence, array or tensor.

    Raises
    ------
    InputError
        For an unknown layer, a channel that does not exist or that cannot be removed, or neither or both of the two.
    """
    if (remove is None) == (keep is None):
        raise InputError("give either remove or keep, a mapping from layers to numbers of channels")
    wanted: Mapping[str, Any] = remove if keep is None else keep  # type: ignore[assignment]
    going, staying = np.zeros(graph.unit_count + 1, dtype=bool), np.zeros(graph.unit_count + 1, dtype=bool)
    for layer, channels in wanted.items():
        units = graph.unit_of(output_axis(graph, layer))
        named = _channels(layer, channels, len(units))
        if keep is not None:
            going[units[~named]] = True
            staying[units[named]] = True
            continue
        frozen = np.flatnonzero(named & (units == 0))
        if len(frozen):
            raise InputError(f"channel {frozen[0]} of {layer} cannot be removed: {reasons(graph)}")
        going[units[named]] = True
    mask: Mask = ~going | staying
    mask[0] = True
    return mask


def _channels(layer: str, channels: Any, size: int) -> Mask:
    """Which of `size` channels are meant."""
    values = np.asarray(channels.detach().cpu() if hasattr(channels, "detach") else channels)
    if values.dtype == bool:
        if values.shape != (size,):
            raise InputError(f"the mask of {layer} has shape {values.shape}; it needs ({size},), one for each channel")
        return values
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise InputError(f"the channels of {layer} must be whole numbers or a mask; got {channels!r:.80}")
    wrong = [int(v) for v in values if not 0 <= v < size]
    if wrong:
        raise InputError(f"{layer} has no channel {wrong[0]}; its {size} channels are numbered from 0 to {size - 1}")
    mask = np.zeros(size, dtype=bool)
    mask[values.astype(np.int64)] = True
    return mask


def _unprotected(graph: DependencyGraph, protect: Sequence[str]) -> list[Group]:
    check_patterns(graph, "protect", protect)
    return [group for group in graph.groups if not any(lies_on(group, pattern) for pattern in protect)]


def _best(
    graph: DependencyGraph, scores: Scores, groups: Sequence[Group], number: Callable[[Group], int], multiple_of: int
) -> Mask:
    """Of each of these groups the best `number(group)` units, at least one; of all others all."""
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise InputError(f"multiple_of must be a whole number, at least 1; got {multiple_of!r}")
    keep = np.ones(graph.unit_count + 1, dtype=bool)
    for group in groups:
        units = np.asarray(group.units)
        step = _step(graph, group, multiple_of)
        unjudged = int(np.isposinf(scores[units]).sum())
        wanted = max(step, unjudged, step * round(max(1, number(group)) / step))
        keep[units] = False
        keep[units[np.argsort(-scores[units], kind="stable")[:wanted]]] = True
    return keep


def _step(graph: DependencyGraph, group: Group, multiple_of: int) -> int:
    """The least number of units that makes a multiple of channels in every layer whose outputs they are."""
    if multiple_of == 1:
        return 1
    steps = [
        multiple_of // math.gcd(multiple_of, int((graph.unit_of(axis) == group.units[0]).sum()))
        for axis in group.producers
    ]
    return math.lcm(*steps)


__all__ = ["Mask", "Ranking", "Ratio", "Scores", "by_hand", "by_percentile", "by_ratio"]
