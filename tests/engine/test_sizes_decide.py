"""Code that decides by a size, and would decide otherwise once the network is cut: so much of the size stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.testing.oracle import largest_error, randomise


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x * 2.0 if x.shape[-1] > 5 else x + 1.0)


class Shortcut(nn.Module):
    """Adds its input where that fits, as some residual blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y + x if y.shape == x.shape else y)


class Small(nn.Module):
    """Decides by a width that is small already."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x * 2.0 if 0 < x.shape[-1] < 9 and x.shape[-1] else x + 1.0)


class SaysSo(nn.Module):
    """Decides by what a layer says of its own widths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.b = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        same = self.m.in_features == self.m.out_features
        return self.b(self.m(self.a(x).relu()) * (2.0 if same else 1.0))


@pytest.mark.parametrize("seed", range(8))
def test_widths_that_a_layer_says_are_alike_stay_alike(seed: int) -> None:
    model, x = randomise(SaysSo(), seed), torch.randn(2, 4, dtype=torch.float64)
    result = prune(model, x, scorer="random", seed=seed, percentile=50.0, floor=0.1)
    assert result.model.m.in_features == result.model.m.out_features < 8
    assert largest_error(model, result.model, result.plan, x) < 1e-12


@pytest.mark.parametrize(("model", "least"), [(Branches(), 6), (Shortcut(), 5), (Small(), 1)])
@pytest.mark.parametrize("seed", range(3))
def test_as_many_channels_stay_as_the_decision_needs(model: nn.Module, least: int, seed: int) -> None:
    model, x = randomise(model, seed), torch.randn(2, 4, dtype=torch.float64)
    smallest = prune(model, x, scorer="random", seed=seed, ratio=0.01)
    assert smallest.model.a.out_features == least + (least > 1)  # and one of the group
    assert largest_error(model, smallest.model, smallest.plan, x) < 1e-12


def test_the_line_that_decides_is_named() -> None:
    graph = DependencyGraph.of(Branches(), torch.ones(2, 4))
    line = Branches.forward.__code__.co_firstlineno + 2
    found = [f for f in graph.frozen if f.node == f"test_sizes_decide.py:{line}"]
    assert [(f.reason, f.channels) for f in found] == [("the code decides by this size", 6)]
