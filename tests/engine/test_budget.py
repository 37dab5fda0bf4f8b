"""Budgets: what is left is within them, counted by torch, and one unit more would not be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunetune import prune
from prunetune.engine import DependencyGraph, PruningPlan, by_cost, by_percentile, cost
from prunetune.engine.selection.budget import position_within
from prunetune.engine.selection.ranking import Ranking
from prunetune.errors import BudgetError, InputError
from prunetune.pruning.budget import Budget
from prunetune.zoo import models as zoo

X = torch.zeros(2, 3, 16, 16)


def counted_flops(model: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops()


def random_scores(graph: DependencyGraph, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(graph.unit_count + 1)


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2"])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_flops_are_within_the_budget_and_no_further_than_one_unit(name: str, share: float) -> None:
    model = zoo[name](10, 3)
    result = prune(model, X, scorer="random", flops=share, floor=0.01, seed=3)
    whole = counted_flops(model, X)
    assert counted_flops(result.model, X) <= share * whole
    ranking = Ranking(result.graph, result.scores, floor=0.01, protect=(), multiple_of=1)
    at = position_within(
        ranking, lambda keep: cost(result.graph, PruningPlan.of(result.graph, keep)).flops / whole, share
    )
    assert at is not None and at > 0
    one_more = PruningPlan.of(result.graph, ranking.mask(at - 1))
    assert cost(result.graph, one_more).flops > share * whole
    assert result.plan == PruningPlan.of(result.graph, ranking.mask(at))


def test_parameters_are_within_the_budget() -> None:
    model = zoo["resnet8"](10, 3)
    result = prune(model, X, scorer="magnitude", params=0.2)
    whole, left = (sum(p.numel() for p in m.parameters()) for m in (model, result.model))
    assert 0.18 * whole < left <= 0.2 * whole


def test_by_hand() -> None:
    """Two linear layers, 4 -> 10 -> 2: every unit has 4 + 2 weights and a bias, of 62 + 2 parameters and 60 MACs."""
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))
    graph = DependencyGraph.of(model, torch.zeros(1, 4))
    scores = np.arange(11.0)
    # 0.5 of 72 parameters are 36; k units have 7 k + 2, so k = 4. 0.5 of the FLOPs are those of 5 units.
    assert by_cost(graph, scores, "params", 0.5, floor=0.01).sum() - 1 == 4
    assert by_cost(graph, scores, "flops", 0.5, floor=0.01).sum() - 1 == 5
    assert by_cost(graph, scores, "flops", 0.5, floor=0.01, multiple_of=4)[1:].tolist() == 6 * [False] + 4 * [True]


def test_a_whole_budget_removes_nothing() -> None:
    model = zoo["resnet8"](10, 3)
    assert prune(model, X, scorer="random", flops=1.0).plan.tensors == {}


@pytest.mark.parametrize("seed", range(5))
def test_masks_of_a_ranking_are_nested_and_keep_the_floor(seed: int) -> None:
    graph = DependencyGraph.of(zoo["resnet8"](10, 3), X)
    ranking = Ranking(graph, random_scores(graph, seed), floor=0.2, protect=["stages.0"], multiple_of=1)
    masks = [ranking.mask(k) for k in range(0, len(ranking) + 1, 7)]
    for before, after in itertools.pairwise(masks):
        assert not (after & ~before).any()
    for group in graph.groups:
        left = masks[-1][list(group.units)].sum()
        if any(name.startswith("stages.0.") for name, _ in group.axes):
            assert left == len(group)
        else:
            assert left >= math.ceil(0.2 * len(group))


def test_a_percentile_is_a_place_in_the_ranking() -> None:
    graph = DependencyGraph.of(zoo["resnet8"](10, 3), X)
    scores = random_scores(graph, 0)
    keep = by_percentile(graph, scores, percentile=60, floor=1e-9)
    below = np.sort(scores[1:])[: int(0.6 * graph.unit_count)]
    assert set(scores[1:][~keep[1:]]) <= set(below)
    assert (~keep).sum() >= len(below) - len(graph.groups)  # every group keeps one, whatever it scores


def test_what_is_not_judged_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 2))
    graph = DependencyGraph.of(model, torch.zeros(1, 4))
    scores = np.arange(17.0)
    first, second = (list(group.units) for group in graph.groups)
    scores[second] = np.inf
    keep = by_percentile(graph, scores, percentile=50, floor=0.01)
    assert keep[second].all() and keep[first].sum() == 5  # the pool has the ten that are judged


# -- what cannot be reached ------------------------------------------------------------------------------------------


def test_the_floor_is_named() -> None:
    model = zoo["resnet8"](10, 3)
    with pytest.raises(BudgetError, match=r"flops=0.01 cannot .*: the least is 0\.\d+; what limits it: floor=0.5 "):
        prune(model, X, scorer="random", flops=0.01, floor=0.5)


def test_the_nearest_is_what_can_be_had() -> None:
    model = zoo["resnet8"](10, 3)
    with pytest.raises(BudgetError) as caught:
        prune(model, X, scorer="random", flops=0.01, floor=0.5)
    nearest = caught.value.nearest
    assert prune(model, X, scorer="random", flops=nearest, floor=0.5).cost.proxy.flops == pytest.approx(
        nearest * counted_flops(model, X)
    )
    with pytest.raises(BudgetError):
        prune(model, X, scorer="random", flops=nearest * 0.999, floor=0.5)


def test_protected_layers_and_multiples_are_named() -> None:
    model = zoo["resnet8"](10, 3)
    with pytest.raises(BudgetError, match=r"protect=\['stages.0'\] \(without it"):
        prune(model, X, scorer="random", flops=0.05, protect=["stages.0"])
    with pytest.raises(BudgetError, match=r"multiple_of=8 \(without it"):
        prune(model, X, scorer="random", flops=0.03, multiple_of=8)


def test_what_is_frozen_is_named() -> None:
    class Ordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)
            self.third = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.third(self.second(self.first(x).cumsum(1)).relu())

    with pytest.raises(BudgetError, match="cumsum.* keeps 8 channels"):
        prune(Ordered(), torch.zeros(1, 4), scorer="random", flops=0.1, floor=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flops": 0.0}, "flops is 0.0, but it must be a number above 0 and at most 1"),
        ({"params": 1.5}, "params is 1.5, but it must be a number above 0 and at most 1"),
        ({"flops": "a tenth"}, "flops is 'a tenth', but it must be a number above 0 and at most 1"),
        ({"flops": 0.1, "params": 0.1}, "give one budget, not 2; got flops=0.1 and params=0.1"),
        ({"speedup": 0.5}, "speedup is 0.5, but it must be a number of at least 1"),
        ({"depth": True}, "depth is True, but needs a budget that says how small"),
        ({"flops": 0.5, "floor": 0}, "floor is 0, but it must be a number above 0"),
    ],
)
def test_impossible_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune(zoo["resnet8"](10, 3), X, **options)  # type: ignore[arg-type]


def test_the_paper_is_the_default() -> None:
    assert (Budget().kind, Budget().asked_percentile) == ("percentile", 85)
    assert Budget(flops=0.1).asked_percentile is None
    assert Budget(flops=0.1).kind == "flops"
