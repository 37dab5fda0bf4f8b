"""What `prune` returns: the proxy, and how it came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from prunetune.engine import Cost, DependencyGraph, Frozen, Group, PruningPlan
from prunetune.engine.reductions import Reduction
from prunetune.engine.selection.ranking import Scores


@dataclass(frozen=True)
class LayerChange:
    """Shape of a weight before and after."""

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class GroupChange:
    """Number of units of a group before and after, and the layers that it ties together."""

    name: str
    before: int
    after: int
    made_by: tuple[int, ...] = ()
    """Places in `PruneResult.layers` of the weights whose outputs the units are."""
    read_by: tuple[int, ...] = ()
    """Places of those that lose input channels with them."""


@dataclass(frozen=True)
class CostChange:
    """Cost of the full network and of its proxy, on the example inputs."""

    base: Cost
    proxy: Cost


@dataclass(frozen=True)
class Measurement:
    """Seconds of a training step of the full network and of a candidate, measured in turns."""

    units: int
    """How many of the candidate's units were below the threshold."""
    base_seconds: float
    proxy_seconds: float

    @property
    def speedup(self) -> float:
        """How many times faster the candidate is."""
        return self.base_seconds / self.proxy_seconds


@dataclass(frozen=True, repr=False)
class PruneResult:
    """The proxy and how it came about."""

    model: nn.Module
    """The smaller network, of the same class, with the weights that stayed."""
    plan: PruningPlan
    graph: DependencyGraph
    """Of the network without the blocks that are bypassed."""
    scores: Scores
    """One score a unit, shape (graph.unit_count + 1,); entry 0: frozen; inf: not judged."""
    cost: CostChange
    seconds: float
    measurements: tuple[Measurement, ...] = ()
    """With `speedup`: what was measured on the way to it, the proxy that is handed out last."""
    reductions: tuple[Reduction, ...] = ()
    """What sees only the channels that were kept, as a mean over them does; all else is exactly as it was."""

    def __repr__(self) -> str:
        """One line: the fields hold a network, its graph and a number for every unit."""
        base, proxy = self.cost.base, self.cost.proxy
        parameters, flops = _share(proxy.parameters, base.parameters), _share(proxy.flops, base.flops)
        return f"<PruneResult: {type(self.model).__name__} with {parameters} of the parameters, {flops} of the FLOPs>"

    def with_norms(self, normed: frozenset[str]) -> PruneResult:
        """The same, with the names of the weights that stand before a norm in its plan."""
        return replace(self, plan=replace(self.plan, normed=normed))

    @property
    def layers(self) -> list[LayerChange]:
        """Every weight with two or more dimensions, in the model's order."""
        cuts = self.plan.tensors
        return [
            LayerChange(name, shape, cuts[name].shape_after if name in cuts else shape)
            for name, shape in self.graph.shapes.items()
            if name in self.graph.parameters and len(shape) > 1
        ]

    @property
    def _widths(self) -> PruningPlan:
        return PruningPlan(self.plan.tensors, self.plan.attributes)

    @property
    def bypassed(self) -> tuple[str, ...]:
        """Names of the residual blocks that have become their shortcuts; their layers are not among `layers`."""
        return tuple(self.plan.bypasses)

    @property
    def groups(self) -> list[GroupChange]:
        """Every group of channels that are cut together."""
        keep = self._widths.kept(self.graph)
        place = {layer.name: i for i, layer in enumerate(self.layers)}

        def change(group: Group) -> GroupChange:
            made = {place[name] for name, _ in group.producers if name in place}
            made_axes = set(group.producers)
            read = {place[axis[0]] for axis in group.axes if axis[0] in place and axis not in made_axes}
            kept = int(keep[np.asarray(group.units)].sum())
            return GroupChange(group.name, len(group), kept, tuple(sorted(made)), tuple(sorted(read)))

        return [change(group) for group in self.graph.groups]

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """What could not be cut, and why."""
        return self.graph.frozen

    def summary(self) -> str:
        """A table of the layers, the costs before and after, what stayed whole, and what sees only what was kept."""
        rows = [(layer.name, _shape(layer.before), _shape(layer.after)) for layer in self.layers]
        widths = [max([len(row[i]) for row in rows] or [0]) for i in range(3)]
        lines = [f"{name:<{widths[0]}}  {a:>{widths[1]}}  ->  {b:>{widths[2]}}" for name, a, b in rows]
        base, proxy = self.cost.base, self.cost.proxy
        lines.extend(f"{path}  ->  its shortcut" for path in self.plan.bypasses)
        lines.append(
            f"parameters  {base.parameters:,} -> {proxy.parameters:,}  ({_share(proxy.parameters, base.parameters)})"
        )
        lines.append(f"FLOPs       {base.flops:,} -> {proxy.flops:,}  ({_share(proxy.flops, base.flops)})")
        before, after = base.activations, proxy.activations
        lines.append(f"activations {_memory(before)} -> {_memory(after)}  ({_share(after, before)})")
        if self.measurements:
            last = self.measurements[-1]
            times = f"{1e3 * last.base_seconds:,.1f} ms -> {1e3 * last.proxy_seconds:,.1f} ms"
            lines.append(f"step time   {times}  (measured: {last.speedup:.2f} times faster)")
        lines.extend(f"kept whole  {f.channels} channels: {f.node}: {f.reason}" for f in self.frozen)
        lines.extend(_sees(self.reductions))
        return "\n".join(lines)


def _sees(reductions: Sequence[Reduction]) -> Iterator[str]:
    """A line for each kind of reduction."""
    places: dict[tuple[str, str], list[str]] = {}
    for reduction in reductions:
        function, _, place = reduction.node.partition(" in ")
        places.setdefault((function, reduction.reason), []).append(place or "the model itself")
    for (function, reason), found in places.items():
        more = f" and {len(found) - 2} more" if len(found) > 2 else ""
        yield f"sees less   {function}: {reason}: {', '.join(found[:2])}{more}"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _memory(size: int) -> str:
    """Bytes, for people.

    >>> _memory(900), _memory(1500), _memory(3_500_000)
    ('900 B', '1.5 KiB', '3.3 MiB')
    """
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.1f} KiB" if size < 2**20 else f"{size / 2**20:,.1f} MiB"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


__all__ = ["CostChange", "GroupChange", "LayerChange", "Measurement", "PruneResult"]
