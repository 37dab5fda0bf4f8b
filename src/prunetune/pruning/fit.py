"""From a budget to a network: which residual blocks are bypassed, and which units of what is left stay."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import nn

from prunetune.engine import (
    Block,
    Cost,
    DependencyGraph,
    ExampleInputs,
    PruningPlan,
    StepTimeModel,
    apply,
    bypass,
    calibrate,
    cost,
    residual_blocks,
)
from prunetune.engine.cost import cost_of
from prunetune.engine.selection.budget import COUNTS, limits, position_within
from prunetune.engine.selection.ranking import Mask, Ranking, Scores
from prunetune.errors import BudgetError, InputError
from prunetune.pruning.budget import PAPER_PERCENTILE, Budget
from prunetune.pruning.isolated_timing import fresh_step_time
from prunetune.pruning.result import Measurement
from prunetune.pruning.speedup import TOLERANCE, Found, find_speedup

MEASURE_SECONDS = 3.0
NEAR = 0.25
"""Relative: what is measured as near to the budget as this is measured again, for longer. Steps of a second, of which
only three fit into the first measurement, were up to a fifth off on a machine that others use."""
LONG_SECONDS = 20.0
CALIBRATION_SECONDS = 5.0
WHOLE_PLAN = PruningPlan({}, {})


@dataclass(frozen=True)
class ScoredNetwork:
    """A network with a score for each unit: the user's, or what is left of it when blocks are bypassed."""

    model: nn.Module
    graph: DependencyGraph
    scores: Scores
    bypass: PruningPlan = WHOLE_PLAN
    """From the user's network to this one."""


ScoreNetwork: TypeAlias = Callable[[nn.Module], ScoredNetwork]
Value: TypeAlias = Callable[[DependencyGraph, Mask], float]
"""What a mask of a network costs, in the budget's own measure; only shares of the whole network's are used."""
Say: TypeAlias = Callable[[str], None]
"""Takes a sentence on what goes on, where that takes long."""


@dataclass(frozen=True)
class Selection:
    """What stays: a mask of the units of `scored`."""

    scored: ScoredNetwork
    keep: Mask
    base: Cost
    """Of the user's network."""
    measurements: tuple[Measurement, ...] = ()


def choose(
    model: nn.Module, example_inputs: ExampleInputs, budget: Budget, score_network: ScoreNetwork, say: Say
) -> Selection:
    """What of `model` stays under `budget`; `score_network` analyses a network and scores its units.

    `say` gets a sentence whenever something is measured.

    Raises
    ------
    BudgetError
        If it cannot be reached, with what can.
    InputError
        If blocks may be bypassed and there are none.
    """
    full = score_network(model)
    base = cost(full.graph)
    if budget.speedup is None and not budget.depth:
        return Selection(full, budget.select(full.graph, full.scores, base), base)
    if budget.speedup is not None:
        say("timing single operations on this device, to predict what a training step takes")
    count = _value(budget, full)
    whole = count(full.graph, _everything(full))

    def value(graph: DependencyGraph, keep: Mask) -> float:
        return count(graph, keep) / whole

    depths = Depths(model, example_inputs, score_network, full) if budget.depth else None
    share = 1 / budget.speedup if budget.speedup is not None else budget.share
    fewest = 0 if depths is None else depths.fewest(budget, value, share)
    for bypassed in range(fewest, 1 + (0 if depths is None else len(depths.order))):
        scored = full if depths is None else depths[bypassed]
        if budget.speedup is None:
            return Selection(scored, budget.select(scored.graph, scored.scores, base), base)
        if budget.depth:
            say(f"with {bypassed} residual blocks bypassed:")
        found = _measured(model, example_inputs, budget, scored, value, say)
        if _is_fast_enough(found, budget):
            return Selection(
                scored, budget.ranking(scored.graph, scored.scores).mask(found.below), base, found.measurements
            )
    raise _too_slow(budget, scored, value, depths, max(measured.speedup for measured in found.measurements))


class Depths:
    """The network with none, one, two, … of its residual blocks bypassed.

    The order takes from the stage that has the largest share of its blocks left, its last block first, so that the
    stages keep their proportions. Stages are blocks with inputs of one shape.
    """

    def __init__(
        self, model: nn.Module, example_inputs: ExampleInputs, score_network: ScoreNetwork, full: ScoredNetwork
    ) -> None:
        self.model, self.score_network = model, score_network
        blocks = [block for block in residual_blocks(model, example_inputs) if block.inside is None]
        if not blocks:
            raise InputError(
                f"depth=True needs residual blocks (modules that add their own input to something); "
                f"{type(model).__name__} has none that can be bypassed"
            )
        self.order = depth_order(blocks)
        self.scored = {0: full}

    def __getitem__(self, count: int) -> ScoredNetwork:
        if count not in self.scored:
            plan = replace(bypass(self.order[:count]), depth=max(1, len(self.order) - count) / len(self.order))
            with torch.inference_mode(False):
                shallow = apply(plan, self.model)
            found = self.score_network(shallow)
            self.scored[count] = ScoredNetwork(found.model, found.graph, found.scores, plan)
        return self.scored[count]

    def fewest(self, budget: Budget, value: Value, share: float) -> int:
        """How many blocks must go for `share` to be within the paper's percentile; else within reach; else all."""
        for percentile in (PAPER_PERCENTILE, 100.0):
            low, high = 0, len(self.order)
            if not self._fits(high, budget, value, share, percentile):
                continue
            while low < high:
                middle = (low + high) // 2
                if self._fits(middle, budget, value, share, percentile):
                    high = middle
                else:
                    low = middle + 1
            return high
        return len(self.order)

    def _fits(self, count: int, budget: Budget, value: Value, share: float, percentile: float) -> bool:
        scored = self[count]
        ranking = budget.ranking(scored.graph, scored.scores)
        below = position_within(ranking, lambda keep: value(scored.graph, keep), share)
        return below is not None and below <= len(ranking) * percentile / 100


def depth_order(blocks: Sequence[Block]) -> list[Block]:
    """The blocks in the order in which they go, so that the stages keep their proportions."""
    stages: dict[tuple[int, ...], list[Block]] = {}
    for block in blocks:
        stages.setdefault(block.shape, []).append(block)
    sizes = {shape: len(stage) for shape, stage in stages.items()}
    order = []
    while any(stages.values()):
        fullest = max(stages, key=lambda shape: len(stages[shape]) / sizes[shape])
        order.append(stages[fullest].pop())
    return order


def _everything(scored: ScoredNetwork) -> Mask:
    ranking = Ranking(scored.graph, scored.scores, floor=1, protect=(), multiple_of=1)
    return ranking.mask(0)


def _value(budget: Budget, full: ScoredNetwork) -> Value:
    """How the budget counts: FLOPs, parameters, or predicted seconds of a training step."""
    if budget.kind in COUNTS:
        count = COUNTS[budget.kind]
        return lambda graph, keep: float(count(cost_of(graph, keep)))
    return predictor(full)


def predictor(full: ScoredNetwork) -> Value:
    """Seconds of a training step of any cut: those of its operations on the device that the network is on."""
    weights = next(full.model.parameters())
    return _device_times(str(weights.device), weights.dtype, torch.get_num_threads()).predict


@functools.cache
def _device_times(device: str, dtype: torch.dtype, threads: int) -> StepTimeModel:
    """How long operations take on a device, found out once in a process; `threads` are those that it was asked with."""
    return calibrate(device, seconds=CALIBRATION_SECONDS, dtype=dtype)


def _measured(
    model: nn.Module, example_inputs: ExampleInputs, budget: Budget, scored: ScoredNetwork, value: Value, say: Say
) -> Found:
    """What of one network is to go for a speed-up, or the nearest to it that was measured."""
    assert budget.speedup is not None
    target, ranking = budget.speedup, budget.ranking(scored.graph, scored.scores)

    def measure(below: int) -> Measurement:
        found = measured(model, example_inputs, scored, ranking, below, target)
        steps = f"{found.base_seconds * 1000:.3g} ms, then {found.proxy_seconds * 1000:.3g} ms"
        say(f"measured training steps: {steps}, {found.speedup:.3g} times faster; {target:g} is asked for")
        return found

    return find_speedup(ranking, target, lambda keep: value(scored.graph, keep), measure)


def _is_fast_enough(found: Found, budget: Budget) -> bool:
    """Whether it is within the tolerance; or where time has steps, as a GPU's has, next to one that is faster."""
    assert budget.speedup is not None
    near = found.speedup >= budget.speedup * (1 - TOLERANCE)
    return near or any(m.speedup >= budget.speedup for m in found.measurements)


def measured(
    model: nn.Module, example_inputs: ExampleInputs, scored: ScoredNetwork, ranking: Ranking, below: int, target: float
) -> Measurement:
    """Seconds of a step of the user's network, and of what is left of `scored` when so many units have gone."""
    with torch.inference_mode(False):
        proxy = apply(PruningPlan.of(scored.graph, ranking.mask(below)), scored.model)

    def timed(seconds: float) -> Measurement:
        times = fresh_step_time({"base": model, "proxy": proxy}, example_inputs, seconds=seconds)
        return Measurement(below, times["base"], times["proxy"])

    found = timed(MEASURE_SECONDS)
    return timed(LONG_SECONDS) if abs(found.speedup / target - 1) <= NEAR else found


def _too_slow(
    budget: Budget, scored: ScoredNetwork, value: Value, depths: Depths | None, nearest: float
) -> BudgetError:
    """The error that says what can be had instead, as it was measured, and what is in the way."""
    ranking = budget.ranking(scored.graph, scored.scores)
    why = limits(ranking, scored.scores, budget.protect, lambda keep: value(scored.graph, keep))
    operations = len(scored.graph.activations)
    bare = Ranking(scored.graph, scored.scores, floor=1e-9, protect=(), multiple_of=1)
    overhead = value(scored.graph, bare.mask(len(bare)))
    deeper = (
        "depth=True lets residual blocks be bypassed, too"
        if depths is None
        else f"all {len(depths.order)} residual blocks that can be bypassed are"
    )
    return BudgetError(
        f"speedup={budget.speedup:g} cannot be reached: the fastest proxy is {nearest:.3g} times faster, "
        f"{1 / nearest:.3g} of the step's time (measured); {why}; with one channel everywhere, the "
        f"{operations} operations of a run would still take {overhead:.3g} of the time (predicted); {deeper}",
        nearest,
    )
