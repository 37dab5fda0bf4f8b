"""Seconds of a training step of every cut of a network, predicted and measured."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.step_time.cases import CUTS, Case
from prunetune.engine import DependencyGraph, PruningPlan, apply, by_percentile, by_ratio
from prunetune.engine.cost import Clock, cost_of, step_time
from prunetune.engine.selection.ranking import Mask, Scores
from prunetune.pruning.speedup import predicted_seconds

Row = dict[str, Any]
"""One cut of one network: what it was predicted to take, by each method, and what it took."""

OURS = "fixed a·FLOPs + b·activations + c·operations, the full network as measured"


def measured(name: str, case: Case, options: argparse.Namespace, clock: Clock) -> Iterator[Row]:
    """Every cut of a network, and the network itself once more: how far two measurements of it are apart."""
    torch.manual_seed(0)
    network = case.build()
    inputs = torch.randn(options.batch or case.batch, 3, case.size, case.size)
    graph = DependencyGraph.of(network, inputs)
    scores = uneven(graph)
    masks = {cut: mask(graph, scores, cut) for cut in CUTS}
    networks = {cut: apply(PruningPlan.of(graph, keep), network).to(options.device) for cut, keep in masks.items()}
    networks["again"] = networks["1"]
    seconds = step_time(networks, inputs, seconds=options.seconds, precision=0, clock=clock)
    anchor = seconds["1"] / predicted_seconds(graph, masks["1"])
    for cut, keep in masks.items():
        cost = cost_of(graph, keep)
        yield {
            "model": name,
            "cut": cut,
            "measured": seconds[cut],
            "again": seconds["again"] if cut == "1" else None,
            "flops": cost.flops,
            "activations": cost.activations,
            "operations": len(graph.activations),
            "predicted": {OURS: anchor * predicted_seconds(graph, keep)},
        }


def uneven(graph: DependencyGraph) -> Scores:
    """Random scores that differ from group to group, as real ones do: some layers stay whole, others become narrow."""
    rng = np.random.default_rng(0)
    scores = rng.random(graph.unit_count + 1)
    for group in graph.groups:
        scores[list(group.units)] *= rng.lognormal(sigma=0.7)
    return scores


def mask(graph: DependencyGraph, scores: Scores, cut: str) -> Mask:
    if cut == "p85":
        return by_percentile(graph, scores, percentile=85, floor=0.15)
    return by_ratio(graph, scores, ratio={"1": 1.0, "1/2": 0.5, "1/4": 0.25}[cut])
