"""From a budget to a network: which residual blocks are bypassed, and which units of what is left stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import nn

from prunetune.engine import (
    Block,
    Cost,
    DependencyGraph,
    ExampleInputs,
    PruningPlan,
    apply,
    bypass,
    cost,
    residual_blocks,
)
from prunetune.engine.cost import cost_of
from prunetune.engine.selection.budget import COUNTS, limits, position_within
from prunetune.engine.selection.ranking import Mask, Ranking, Scores
from prunetune.errors import BudgetError, InputError
from prunetune.pruning.budget import PAPER_PERCENTILE, Budget
from prunetune.pruning.isolated_timing import StepTimer, step_timer
from prunetune.pruning.result import Measurement
from prunetune.pruning.speedup import Bracket, Correction, predicted_seconds

TURN_SECONDS = 1.0
"""Of a candidate that is timed for the first time."""
SURE_SECONDS = 1.5
"""Of one that came near: it is timed so much longer."""
NEAR = 0.05
"""Relative."""
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
    depths = Depths(model, example_inputs, score_network, full) if budget.depth else None
    if budget.speedup is not None:
        with step_timer(model, example_inputs) as timer:
            return _Speedup(budget, full, depths, timer, say).selection(base)
    scored = full if depths is None else depths[depths.fewest(budget, _share(budget, full), budget.share)]
    return Selection(scored, budget.select(scored.graph, scored.scores, base), base)


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


def _share(budget: Budget, full: ScoredNetwork) -> Value:
    """What a mask leaves of the FLOPs or parameters of the full network."""
    count = COUNTS[budget.kind]  # type: ignore[index]
    whole = count(cost_of(full.graph, _everything(full)))
    return lambda graph, keep: count(cost_of(graph, keep)) / whole


class _Speedup:
    """The search for a network that is so many times faster: how many blocks are bypassed, and how many units go."""

    def __init__(self, budget: Budget, full: ScoredNetwork, depths: Depths | None, timer: StepTimer, say: Say) -> None:
        assert budget.speedup is not None
        self.budget, self.target, self.full, self.depths = budget, budget.speedup, full, depths
        self.timer, self.say = timer, say
        self.whole = predicted_seconds(full.graph, _everything(full))
        self.correction = Correction()
        self.brackets: dict[int, Bracket] = {}

    def selection(self, base: Cost) -> Selection:
        """What stays. Raises BudgetError where even the smallest network is too slow."""
        self.say("timing training steps on this device: the full network's, and those of what may become the proxy")
        low, bypassed, high = 0, 0, 0 if self.depths is None else len(self.depths.order)
        met: list[Measurement] = []
        while low <= high:
            bypassed = min(max(low, self.wanted(bypassed)), high)
            scored = self.full if self.depths is None else self.depths[bypassed]
            bracket = self.brackets.setdefault(
                bypassed, Bracket(self.budget.ranking(scored.graph, scored.scores), self.target)
            )
            met.append(
                self.measured(scored, bracket.ranking, bracket.next(partial(self.share, scored.graph)), bypassed)
            )
            bracket.add(met[-1])
            if bracket.is_too_small and low < bypassed:
                high = bypassed - 1
            elif bracket.is_met:
                break
            elif bracket.is_over:
                low = bypassed + 1
        reached = [count for count, each in self.brackets.items() if each.is_met]
        if not reached:
            raise self.too_slow(scored, max(each.speedup for each in met))
        fewest = min(reached)
        scored, nearest = self.full if not fewest else self.depths[fewest], self.brackets[fewest].nearest  # type: ignore[index]
        others = (each for each in met if each is not nearest)
        keep = self.brackets[fewest].ranking.mask(nearest.units)
        return Selection(scored, keep, base, (*others, nearest))

    def wanted(self, bypassed: int) -> int:
        """How many blocks to bypass: as many as before where that was fast enough; else more, by what was measured."""
        known = self.brackets.get(bypassed)
        if self.depths is None or (known is not None and known.has_fast):
            return bypassed
        return max(bypassed, self.depths.fewest(self.budget, self.share, 1 / self.target))

    def share(self, graph: DependencyGraph, keep: Mask) -> float:
        """Of the full network's step, predicted in the light of what was measured."""
        return self.correction(predicted_seconds(graph, keep) / self.whole)

    def measured(self, scored: ScoredNetwork, ranking: Ranking, below: int, bypassed: int) -> Measurement:
        """Seconds of a step of the user's network, and of what is left of `scored` when so many units have gone."""
        keep = ranking.mask(below)
        with torch.inference_mode(False):
            proxy = apply(PruningPlan.of(scored.graph, keep), scored.model)
        found = Measurement(below, *self.timer(proxy, seconds=TURN_SECONDS))
        if abs(found.speedup / self.target - 1) <= NEAR:
            found = Measurement(below, *self.timer(proxy, again=True, seconds=SURE_SECONDS))
        self.correction.learn(predicted_seconds(scored.graph, keep) / self.whole, 1 / found.speedup)
        steps = f"{found.base_seconds * 1000:.3g} ms, then {found.proxy_seconds * 1000:.3g} ms"
        deep = f" with {bypassed} residual blocks bypassed" if bypassed else ""
        self.say(
            f"measured training steps{deep}: {steps}, {found.speedup:.3g} times faster; {self.target:g} is asked for"
        )
        return found

    def too_slow(self, scored: ScoredNetwork, nearest: float) -> BudgetError:
        """The error that says what can be had instead, as it was measured, and what is in the way."""
        budget, ranking = self.budget, self.budget.ranking(scored.graph, scored.scores)

        share = partial(self.share, scored.graph)
        why = limits(ranking, scored.scores, budget.protect, share)
        operations = len(scored.graph.activations)
        bare = Ranking(scored.graph, scored.scores, floor=1e-9, protect=(), multiple_of=1)
        overhead = share(bare.mask(len(bare)))
        deeper = (
            "depth=True lets residual blocks be bypassed, too"
            if self.depths is None
            else f"all {len(self.depths.order)} residual blocks that can be bypassed are"
        )
        return BudgetError(
            f"speedup={self.target:g} cannot be reached: the fastest proxy is {nearest:.3g} times faster, "
            f"{1 / nearest:.3g} of the step's time (measured); {why}; with one channel everywhere, the "
            f"{operations} operations of a run would still take {overhead:.3g} of the time (predicted); {deeper}",
            nearest,
        )
