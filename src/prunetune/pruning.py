"""`prune`: from a network to its proxy, in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from prunetune.engine import (
    Cost,
    DependencyGraph,
    ExampleInputs,
    Frozen,
    Heads,
    PruningPlan,
    apply,
    by_percentile,
    by_ratio,
    check_runs,
    cost,
    to_device,
)
from prunetune.engine.collector import paused
from prunetune.engine.copies import copy_with
from prunetune.engine.cost import cost_of
from prunetune.engine.names import reasons
from prunetune.engine.selection import Mask, Ratio, Scores
from prunetune.errors import InputError, PlanError, TraceError
from prunetune.plugins import scorers
from prunetune.plugins.base import Context, Scorer

PAPER_PERCENTILE = 85.0
PAPER_FLOOR = 0.15


@dataclass(frozen=True)
class LayerChange:
    """Shape of a weight before and after."""

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class GroupChange:
    """Number of units of a group before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class CostChange:
    """Cost of the full network and of its proxy, on the example inputs."""

    base: Cost
    proxy: Cost


@dataclass(frozen=True)
class PruneResult:
    """The proxy and how it came about."""

    model: nn.Module
    """The smaller network, of the same class, with the weights that stayed."""
    plan: PruningPlan
    graph: DependencyGraph
    scores: Scores
    """One score a unit, shape (graph.unit_count + 1,); entry 0 stands for what is frozen."""
    cost: CostChange
    seconds: float

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
    def groups(self) -> list[GroupChange]:
        """Every group of channels that are cut together."""
        keep = self.plan.kept(self.graph)
        return [GroupChange(g.name, len(g), int(keep[np.asarray(g.units)].sum())) for g in self.graph.groups]

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """What could not be cut, and why."""
        return self.graph.frozen

    def summary(self) -> str:
        """A table of the layers, what it costs before and after, and what stayed whole and why."""
        rows = [(layer.name, _shape(layer.before), _shape(layer.after)) for layer in self.layers]
        widths = [max([len(row[i]) for row in rows] or [0]) for i in range(3)]
        lines = [f"{name:<{widths[0]}}  {a:>{widths[1]}}  ->  {b:>{widths[2]}}" for name, a, b in rows]
        base, proxy = self.cost.base, self.cost.proxy
        lines.append(
            f"parameters  {base.parameters:,} -> {proxy.parameters:,}  ({_share(proxy.parameters, base.parameters)})"
        )
        lines.append(f"FLOPs       {base.flops:,} -> {proxy.flops:,}  ({_share(proxy.flops, base.flops)})")
        before, after = base.activations, proxy.activations
        lines.append(f"activations {_memory(before)} -> {_memory(after)}  ({_share(after, before)})")
        lines.extend(f"kept whole  {f.channels} channels: {f.node}: {f.reason}" for f in self.frozen)
        return "\n".join(lines)


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


@paused()
def prune(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    scorer: str | Scorer = "synflow",
    percentile: float | None = None,
    floor: float = PAPER_FLOOR,
    ratio: Ratio | None = None,
    protect: Sequence[str] = (),
    multiple_of: int = 1,
    heads: Heads = "auto",
    seed: int = 0,
) -> PruneResult:
    """Cut `model` down to a proxy of the same architecture; `model` itself is not changed.

    Parameters
    ----------
    model
        Any module that runs on `example_inputs`.
    example_inputs
        What the model is called with: a tensor, a tuple of arguments, or a dict of keyword arguments.
    scorer
        A name of the registry (`prunetune list scorers`) or a `Scorer`.
    percentile
        Algorithm 1 of the paper: this share of all channels falls below the threshold; 85 unless `ratio` is given.
    floor
        With `percentile`: the share of each group's channels that stays at least (the paper's gamma).
    ratio
        Instead of `percentile`: that share of every group's channels stays; or a mapping from patterns of layers'
        names (`{"layer1": 0.75, "layer4.*.conv1": 0.25}`) to shares, see `engine.by_ratio`.
    protect
        Patterns of layers that stay as they are, with all their input and output channels.
    multiple_of
        Layers keep a multiple of so many output channels, where they have as many.
    heads
        Whether attentions lose whole heads or dimensions of each, see `DependencyGraph.of`.
    seed
        For scorers that draw random numbers.

    Raises
    ------
    InputError
        For an unknown scorer or layer, a value out of range, or `percentile` and `ratio` together.
    TraceError
        If the model does not run on the example inputs.

    Example
    -------
    >>> from torch import nn, ones
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> prune(net, ones(1, 4), scorer="magnitude", ratio=0.5).model[0]
    Linear(in_features=4, out_features=4, bias=True)
    """
    start = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if percentile is not None and ratio is not None:
        raise InputError(f"give percentile or ratio, not both; got percentile={percentile} and ratio={ratio}")
    method = scorers[scorer]() if isinstance(scorer, str) else scorer
    graph = DependencyGraph.of(model, example_inputs, heads=heads)
    if not graph.groups:
        raise InputError(f"{type(model).__name__} has no channels that can be removed: {reasons(graph)}")
    scores = score(model, example_inputs, graph, method, seed=seed)
    keep: Mask
    if ratio is not None:
        keep = by_ratio(graph, scores, ratio=ratio, protect=protect, multiple_of=multiple_of)
    else:
        p = PAPER_PERCENTILE if percentile is None else percentile
        keep = by_percentile(graph, scores, percentile=p, floor=floor, protect=protect, multiple_of=multiple_of)
    plan = PruningPlan.of(graph, keep)
    with torch.inference_mode(False):  # the proxy is there to be trained
        proxy = apply(plan, model)
    try:  # the last line of defence: the cut network must run before anyone gets it
        modes = (True,) if graph.one_mode else (False, True)
        check_runs(proxy, example_inputs, training=modes, calls=graph.calls)
    except TraceError as error:
        raise PlanError(f"the cut network would not do what the full one does: {error}") from error
    change = CostChange(cost(graph), cost_of(graph, keep))
    return PruneResult(proxy, plan, graph, scores, change, time.perf_counter() - start)


def score(
    model: nn.Module, example_inputs: ExampleInputs, graph: DependencyGraph, scorer: Scorer, *, seed: int
) -> Scores:
    """One score a unit; what runs or changes the model works on a copy, and the random state is as before."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    inputs: Any = to_device(example_inputs, device)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        own = model if scorer.only_reads else copy_with(model, {}).eval()
        scores = scorer.unit_scores(Context(own, inputs, graph, generator))
    if not np.isfinite(scores).all():
        raise InputError(
            f"{type(scorer).__name__} gave scores that are not finite; "
            "are the weights finite, or does the network overflow?"
        )
    return scores


__all__ = ["CostChange", "GroupChange", "LayerChange", "PruneResult", "prune", "score"]
