"""Iterative SynFlow against path sums by hand, conservation of flow, and what the paper promises at extreme ratios."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.engine.selection.ranking import Scores
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.base import Context, Scorer
from prunetune.plugins.scoring import score
from prunetune.plugins.synflow_iterative import IterativeSynFlow
from prunetune.zoo import models as zoo
from prunetune.zoo.vgg import STAGES, VGG


def flow(model: nn.Module, x: Tensor) -> tuple[DependencyGraph, Scores]:
    """The scores of the first round."""
    graph = DependencyGraph.of(model, x)
    context = Context(copy.deepcopy(model).eval(), x, graph, torch.Generator())
    return graph, IterativeSynFlow().flow(context)


def linear(*matrices: list[list[float]]) -> nn.Module:
    layers = []
    for matrix in matrices:
        layers.append(nn.Linear(len(matrix[0]), len(matrix), bias=False))
        layers[-1].weight.data.copy_(torch.tensor(matrix))
    return nn.Sequential(*layers)


def test_the_first_round_is_the_product_of_absolute_matrices() -> None:
    model = linear([[1, -2], [3, 4], [0, 1]], [[1, -1, 0], [0, 2, -1]], [[1, -3]])
    # Forwards with x = (1, 1): |W1| x = (3, 7, 1), |W2||W1| x = (10, 15), R = 10 + 3 * 15 = 55.
    # Backwards: |W3| = (1, 3), |W3||W2| = (1, 7, 3). All paths through a unit: 3 * 1, 7 * 7, 1 * 3 and 10 * 1, 15 * 3.
    _, scores = flow(model, torch.tensor([[-5.0, 0.3]]))
    assert scores[1:].tolist() == [3, 49, 3, 10, 45]


def test_flow_is_conserved_from_layer_to_layer() -> None:
    """Tanaka et al. 2020, theorem 2: every layer's scores sum to R; of a network of magnitudes on ones."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 5, 2, stride=2, bias=False),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(20, 30, bias=False),
        nn.Linear(30, 7, bias=False),
    )
    model[4].weight.data *= 100  # beyond 6, where ReLU6 lets nothing through
    x = torch.randn(2, 3, 10, 10)
    graph, scores = flow(model, x)
    own = copy.deepcopy(model).double().eval()
    own[5] = nn.ReLU()
    for parameter in own.parameters():
        parameter.data.abs_()
    total = own(torch.ones_like(x[:1]).double()).sum().item()  # all examples are the same, and one is looked at
    assert [scores[list(g.units)].sum() for g in graph.groups] == pytest.approx([total] * 3, rel=1e-12)


def test_iterating_differs_from_a_single_shot_by_hand() -> None:
    # Units A, B of the first layer and C, D of the second; flow A -> C 3, A -> D 3, B -> C 5, B -> D none.
    model = linear([[1], [-1]], [[3, 5], [-3, 0]], [[1, 1]])
    x = torch.ones(1, 1)
    assert flow(model, x)[1][1:].tolist() == [6, 5, 8, 3]
    # A single shot for two units removes D and B. Iterating: D goes, so that of A's 6 only 3 are left; A goes, and of
    # C's 8 only 5 are left; B and C, one path, have 5 each, of which the first goes first.
    # (4 units at density 1/4 in 4 rounds: round(4 * (1/4)^(k/4)) = 3, 2, 1, 1 are left.)
    graph = DependencyGraph.of(model, x)
    iterated = score(model, x, graph, IterativeSynFlow(rounds=4, density=0.25), seed=0)
    assert iterated[1:].tolist() == [0.25, 0.5, 0.75, 0.0]
    single = score(model, x, graph, IterativeSynFlow(rounds=1, density=0.25), seed=0)
    assert np.argsort(single[1:]).tolist() == [3, 1, 0, 2]


def test_a_units_flow_is_the_mean_of_its_members() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = linear([[1], [2]]), linear([[0, 4], [1, 0]]), linear([[1, 3]])

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.out(y + self.b(y))

    # y = (1, 2), b(y) = (8, 1), dR/d(sum) = (1, 3), dR/dy = (1, 3) + (3, 4) = (4, 7).
    # a: 1 * 4, 2 * 7; b: 8 * 1, 1 * 3; means 6 and 8.5.
    assert flow(Residual(), torch.ones(1, 1))[1][1:].tolist() == [6, 8.5]


def stack(widths: list[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for before, width in zip([3, *widths], widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


EXTREME = {
    "VGG-16, a quarter as wide": lambda: VGG(tuple(tuple(w // 4 for w in s) for s in STAGES["D"]), 10, 3),
    "wide and narrow in turns": lambda: stack([8, 128, 8, 128, 8, 128]),
}


@pytest.mark.parametrize("name", EXTREME)
def test_layers_collapse_under_a_single_shot_and_not_under_iteration(name: str) -> None:
    """Section 4 of the paper: at 98 % SNIP empties whole layers; by theorem 3 iterated SynFlow does not."""
    model, x = EXTREME[name](), torch.randn(1, 3, 8, 8)
    graph = DependencyGraph.of(model, x)
    data = [(torch.randn(32, 3, 8, 8), torch.arange(32) % 10)]

    def emptied(scorer: str | Scorer) -> int:
        """Groups of which no unit is above the threshold that is there before the floor."""
        method = make_scorer(scorer) if isinstance(scorer, str) else scorer
        scores = score(model, x, graph, method, data=data, seed=0)
        threshold = np.sort(scores[1:])[int(0.98 * graph.unit_count)]
        return sum(bool((scores[list(group.units)] < threshold).all()) for group in graph.groups)

    assert emptied("snip") >= len(graph.groups) / 2
    assert min(map(emptied, ("3sp", "synflow-absolute", IterativeSynFlow(rounds=1)))) >= 3
    assert emptied("synflow-iterative") == 0


def test_relu6_does_not_saturate() -> None:
    """MobileNetV2 on ones, all weights magnitudes: with ReLU6 as it is, nothing goes through most layers."""
    model, x = zoo["mobilenetv2"](10, 3), torch.ones(1, 3, 8, 8)
    graph, scores = flow(model, x)

    def by_hand(activation: type[nn.Module]) -> Scores:
        own = copy.deepcopy(model).double().eval()
        for module in list(own.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.ReLU6):
                    setattr(module, name, activation())
        for parameter in own.parameters():
            parameter.data.abs_()
        own(x.double()).sum().backward()
        sums, members = np.zeros(graph.unit_count + 1), np.zeros(graph.unit_count + 1)
        for axis in {axis for group in graph.groups for axis in group.producers}:
            weight = own.get_parameter(axis[0])
            np.add.at(sums, graph.unit_of(axis), (weight * weight.grad).detach().sum((1, 2, 3)).numpy())
            np.add.at(members, graph.unit_of(axis), 1)
        return sums[1:] / members[1:]

    def silent(values: Scores) -> int:
        return sum(not values[np.array(group.units) - 1].any() for group in graph.groups)

    assert scores[1:] == pytest.approx(by_hand(nn.ReLU), rel=1e-9)
    assert silent(scores[1:]) == 0
    assert silent(by_hand(nn.ReLU6)) > len(graph.groups) / 2


def test_it_is_deterministic_and_sees_no_data() -> None:
    model = zoo["resnet8"](10, 3)
    scorer = IterativeSynFlow(rounds=20)
    plans = [prune(model, x, scorer=scorer).plan for x in (torch.randn(2, 3, 16, 16), torch.zeros(2, 3, 16, 16))]
    assert plans[0] == plans[1]
    assert prune(model, torch.randn(2, 3, 16, 16), scorer=scorer, seed=9).plan == plans[0]


def test_every_budget_keeps_what_the_algorithm_keeps_there() -> None:
    """The order in which units go: a larger budget keeps all that a smaller one does, and no two are worth the same."""
    model, x = zoo["resnet8"](10, 3), torch.ones(1, 3, 16, 16)
    graph = DependencyGraph.of(model, x)
    scores = score(model, x, graph, IterativeSynFlow(rounds=20), seed=0)
    assert sorted((scores[1:] * graph.unit_count).round().astype(int)) == list(range(graph.unit_count))


def test_values_out_of_range_and_overflow() -> None:
    with pytest.raises(InputError, match="rounds must be at least 1; got 0"):
        IterativeSynFlow(rounds=0)
    with pytest.raises(InputError, match="density must be over 0 and below 1; got 1"):
        IterativeSynFlow(density=1)
    deep = linear(*[[[1e38] * 3] * 3] * 12)
    with pytest.raises(InputError, match="synflow-iterative overflows float64"):
        prune(deep, torch.ones(1, 3), scorer="synflow-iterative")
