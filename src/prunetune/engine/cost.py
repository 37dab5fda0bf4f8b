"""What a network costs: parameters, FLOPs and activations of any cut without applying it; step time by measurement."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prunetune.engine.dependency import DependencyGraph
from prunetune.engine.depth.shortcut import enclosing
from prunetune.engine.outputs import tensors_of
from prunetune.engine.plan import PruningPlan
from prunetune.engine.rules.context import Term
from prunetune.engine.surroundings import set_aside
from prunetune.engine.tracing.copies import copy_with
from prunetune.engine.tracing.trace import ExampleInputs, call_arguments, to_device
from prunetune.errors import PlanError

Clock: TypeAlias = Callable[[], float]
"""Gives seconds from some start."""


@dataclass(frozen=True)
class Cost:
    """What a network costs on the example inputs."""

    parameters: int
    flops: int
    """Floating point operations of one forward pass: 2 a multiply-add, contractions only."""
    activations: int
    """Bytes of all tensors that the operations of one forward pass in training mode make, views excluded: what the
    backward pass can find in memory, and an upper bound of what autograd keeps of it."""


def cost(graph: DependencyGraph, plan: PruningPlan | None = None) -> Cost:
    """Cost of the network after `plan`, or as it is. FLOPs are what `torch.utils.flop_counter` counts.

    Of a plan only the widths are counted: with bypasses it takes the graph of the bypassed network,
    `DependencyGraph.of(apply(PruningPlan({}, {}, plan.bypasses), model), inputs)`.

    Raises
    ------
    PlanError
        If the plan bypasses a module that the graph still has.
    """
    bypasses = {} if plan is None else plan.bypasses
    for name in graph.shapes if bypasses else ():
        path = enclosing(name, bypasses)
        if path is not None:
            raise PlanError(
                f"the graph still has {name}, and the plan bypasses {path}; analyse the network without it: "
                "DependencyGraph.of(apply(PruningPlan({}, {}, plan.bypasses), model), inputs)"
            )
    keep = np.ones(graph.unit_count + 1, dtype=bool) if plan is None else plan.kept(graph)
    return cost_of(graph, keep)


def cost_of(graph: DependencyGraph, keep: NDArray[np.bool_]) -> Cost:
    """Cost of the network that has only the units for which `keep` is true (shape (unit_count + 1,))."""
    stays = keep.copy()
    stays[0] = True
    parameters = 0
    kept: dict[int, int] = {}  # by id, as below
    for name in graph.parameters:
        size = 1
        for dim, n in enumerate(graph.shapes[name]):
            units = graph.axes.get((name, dim))
            if units is not None and id(units) not in kept:
                kept[id(units)] = int(np.count_nonzero(stays[units]))
            size *= n if units is None else kept[id(units)]
        parameters += size
    present = stays[graph.labels]
    counts: dict[int, int] = {}  # by id: most terms share their labels with others
    return Cost(parameters, _total(graph.flops, present, counts), _total(graph.activations, present, counts))


def _total(terms: Sequence[Term], present: NDArray[np.bool_], counts: dict[int, int]) -> int:
    total = 0
    for term in terms:
        product = term.constant
        for vec in term.vecs:
            if id(vec) not in counts:
                counts[id(vec)] = int(np.count_nonzero(present[vec]))
            product *= counts[id(vec)]
        total += product
    return total


def flops_of_units(graph: DependencyGraph) -> NDArray[np.float64]:
    """What removing each unit alone would save: FLOPs of a forward pass, shape (unit_count + 1,), entry 0 is 0."""
    saved = np.zeros(graph.unit_count + 1)
    for term in graph.flops:
        units = [graph.labels[vec] for vec in term.vecs]
        sizes = [len(vec) for vec in units]
        for i, own in enumerate(units):
            others = math.prod(sizes[:i] + sizes[i + 1 :])
            saved += np.bincount(own, minlength=len(saved)) * float(term.constant * others)
    saved[0] = 0.0
    return saved


FEWEST_TURNS, MOST_TURNS = 5, 200
"""Of a measurement: a median of more is no better."""


def step_time(
    models: Mapping[str, nn.Module],
    example_inputs: ExampleInputs,
    *,
    seconds: float = 3.0,
    precision: float = 0.02,
    least: int = 3,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of one training step (forward and backward) of each model on the example inputs.

    The models take turns, so that a machine that slows down does so for all of them: the first one's seconds are the
    median of its steps, the others' that times the median of their ratios to it, turn by turn. They do so until the
    relative standard error of all these medians is `precision`, for about `seconds` at most and `MOST_TURNS` at most,
    but `least` turns in any case.
    It is copies that run: weights, buffers and gradients stay as they are, and so does the random state.
    `time.process_time` as the clock does not count what other processes do meanwhile, nor what a device does.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    device = next((p.device for m in models.values() for p in m.parameters()), torch.device("cpu"))
    args, kwargs = call_arguments(to_device(example_inputs, device))
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        copies = {name: copy_with(model, {}).train() for name, model in models.items()}
        for model in copies.values():
            stack.enter_context(set_aside(model))
            training_step(model, args, kwargs, device, clock)  # warm-up
        deadline = time.perf_counter() + seconds
        turns = 0
        while turns < least or (
            turns < MOST_TURNS and time.perf_counter() < deadline and not _are_precise(times, precision)
        ):
            turns += 1
            for name, model in copies.items():
                times[name].append(training_step(model, args, kwargs, device, clock))
    return _paired_medians(times)


def _are_precise(times: Mapping[str, list[float]], precision: float) -> bool:
    """Whether the medians of the first one's seconds and of the others' ratios to it are known well enough.

    By the standard error of a median of normal values, 1.2533 σ/√n, σ being 1.4826 times the median absolute deviation.

    >>> _are_precise({"base": [1.0, 1.0, 1.0, 1.1, 1.0]}, 0.02), _are_precise({"base": [1.0, 1.2, 0.8, 1.4, 1.0]}, 0.02)
    (True, False)
    """
    first = next(iter(times.values()))
    if len(first) < FEWEST_TURNS or not all(first):
        return False
    beside = ([own / base for own, base in zip(values, first, strict=True)] for values in times.values())
    return all(_error_of_median(values) < precision * statistics.median(values) for values in (first, *beside))


def _error_of_median(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    return 1.2533 * 1.4826 * deviation / math.sqrt(len(values))


def _paired_medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of the first one's seconds, and for each that times the median of its ratios to it.

    >>> _paired_medians({"base": [4.0, 6.0, 5.0], "proxy": [2.0, 3.0, 2.5]})  # the second turn was a slow one
    {'base': 5.0, 'proxy': 2.5}
    """
    first = next(iter(times.values()))
    middle = statistics.median(first)
    if not all(first):  # a clock that stands still
        return {name: statistics.median(values) for name, values in times.items()}
    return {
        name: middle * statistics.median(own / beside for own, beside in zip(values, first, strict=True))
        for name, values in times.items()
    }


def training_step(
    model: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], device: torch.device, clock: Clock
) -> float:
    """Seconds of one forward and backward pass."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    _synchronise(device)
    start = clock()
    out = model(*args, **kwargs)
    loss = torch.stack([t.float().mean() for t in tensors_of(out) if t.is_floating_point()]).sum()
    if loss.requires_grad:
        torch.autograd.grad(loss, parameters, allow_unused=True)
    _synchronise(device)
    return clock() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
