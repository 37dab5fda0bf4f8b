"""Scorers that read weights, and the parts that scorers are combined with, by hand and by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.engine.selection.ranking import Scores
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.parts import by_group_mean, lamp
from prunetune.plugins.scoring import score
from prunetune.zoo import models as zoo


def scores_of(model: nn.Module, x: Tensor, name: str, seed: int = 0) -> tuple[DependencyGraph, Scores]:
    graph = DependencyGraph.of(model, x)
    return graph, score(model, x, graph, make_scorer(name), seed=seed)


def test_magnitudes_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.Flatten(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[3.0, -4.0]]], [[[0.0, 2.0]]]]))
    x = torch.ones(1, 1, 1, 3)
    assert scores_of(model, x, "magnitude")[1][1:].tolist() == [3.5, 1.0]
    # sqrt((9 + 16) / 2) and sqrt(4 / 2)
    assert scores_of(model, x, "magnitude-l2")[1][1:] == pytest.approx([math.sqrt(12.5), math.sqrt(2)])


def slow_distances(weight: Tensor, dim: int) -> list[float]:
    """He et al. 2019, eq. 7: sums of distances to all filters; over filters and weights, as means."""
    filters = [weight.select(dim, n).double() for n in range(weight.shape[dim])]
    return [
        sum(math.sqrt(float(((a - b) ** 2).sum())) for b in filters) / len(filters) / math.sqrt(a.numel())
        for a in filters
    ]


@pytest.mark.parametrize(
    ("layer", "dim"), [(nn.Conv2d(2, 40, 3), 0), (nn.ConvTranspose2d(2, 40, 3), 1), (nn.Conv1d(2, 6, 3), 0)]
)
def test_geometric_median_by_brute_force(layer: nn.Module, dim: int) -> None:
    flat = isinstance(layer, nn.Conv1d)
    reader = (nn.Conv1d if flat else nn.Conv2d)(layer.out_channels, 2, 1)
    x = torch.ones(1, 2, 8) if flat else torch.ones(1, 2, 8, 8)
    _, scores = scores_of(nn.Sequential(layer, reader), x, "fpgm")
    assert scores[1:] == pytest.approx(slow_distances(layer.weight.detach(), dim), rel=1e-6)


def test_filters_that_are_all_the_same_are_worth_nothing() -> None:
    """Distances by |a|^2 + |b|^2 - 2ab in float32 leave up to 6e-4 of a filter's norm between it and itself."""
    for seed in range(4):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(500, 30), nn.Linear(30, 2))
        filters = model[0].weight.detach()
        filters[1:] = filters[0]
        _, scores = scores_of(model, torch.ones(1, 500), "fpgm")
        assert scores[1:].max() < 1e-6 * filters.square().mean().sqrt()


def test_the_twins_of_a_layer_are_worth_the_same_and_least() -> None:
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1))
    with torch.no_grad():  # sums of distances / 4 / sqrt(2): twins 0 + 3 + 4, then 3 + 3 + 5, then 4 + 4 + 5
        model[0].weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 4.0]]))
    _, scores = scores_of(model, torch.ones(1, 2), "fpgm")
    assert scores[1:] == pytest.approx(np.array([7, 11, 7, 13]) / 4 / math.sqrt(2))


def test_channels_of_a_transposed_convolution_lie_on_its_second_axis() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 1), nn.Conv2d(3, 1, 1))
    with torch.no_grad():  # (in 2, out 3)
        model[0].weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [5.0, 0.0, -3.0]])[..., None, None])
    graph, scores = scores_of(model, torch.ones(1, 2, 4, 4), "magnitude")
    assert graph.groups[0].producers == (("0.weight", 1),)
    assert scores[1:].tolist() == [3.0, 1.0, 3.0]


@pytest.mark.parametrize("percentile", [10.0, 50.0, 85.0, 95.0])
def test_uniform_keeps_the_same_share_of_every_group(percentile: float) -> None:
    x = torch.ones(1, 3, 16, 16)
    result = prune(zoo["resnet14"](10, 3), x, scorer="uniform", percentile=percentile, floor=1e-9)
    for group, units in zip(result.groups, result.graph.groups, strict=True):
        assert abs(group.after - (1 - percentile / 100) * group.before) <= 1
        kept = result.plan.kept(result.graph)[list(units.units)]
        assert kept.tolist() == [True] * group.after + [False] * (group.before - group.after), "its first units"


def test_random_draws_one_number_a_unit() -> None:
    """The mean of the numbers of many members would never be among the best: streams would go, and nothing else."""
    x = torch.ones(1, 3, 16, 16)
    graph, scores = scores_of(zoo["resnet32"](10, 3), x, "random")
    streams = [unit for group in graph.groups if len(group.producers) > 4 for unit in group.units]
    # The deviation of a uniform number is 0.289; of the mean of five and more it would be at most 0.13.
    assert len(streams) == 64 and 0.2 < scores[streams].std() < 0.38
    assert scores[1:].min() >= 0 and scores[1:].max() < 1.0 and abs(scores[1:].mean() - 0.5) < 0.05


class Residual(nn.Module):
    """Means of magnitudes: a 1, 2, 6 and b 9, 4, 0; w * dL/dw for `gate` is tested with the gradient scorers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(2, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 1)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 2.0], [-6.0, 6.0]]))
            self.b.weight.copy_(torch.tensor([[9.0, -9.0, 9.0], [4.0, 4.0, 4.0], [0.0, 0.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.out(y + self.b(y))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("", [5, 3, 3]),
        ("+mean", [5, 3, 3]),
        ("+sum", [10, 6, 6]),
        ("+max", [9, 4, 6]),
        ("+gate", [10, 6, 6]),
        ("+sum+group-mean", [10 / (22 / 3), 6 / (22 / 3), 6 / (22 / 3)]),
        # Ascending: 4, 6, 9 with squares 16, 36, 81.
        ("+max+lamp", [1.0, 16 / 133, 36 / 117]),
        ("+lamp+max", [1.0, 16 / 133, 36 / 117]),
    ],
)
def test_parts_by_hand(part: str, expected: list[float]) -> None:
    assert scores_of(Residual(), torch.ones(1, 2), f"magnitude{part}")[1][1:] == pytest.approx(expected)


def test_a_gate_adds_members_with_their_signs() -> None:
    """Members that undo each other, w * dR/dw = 3 and -3, are worth nothing together; their magnitudes' mean is 3."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = (nn.Linear(1, 2, bias=False) for _ in range(3))
            self.out = nn.Linear(2, 1, bias=False)
            with torch.no_grad():
                self.a.weight.copy_(torch.tensor([[3.0], [1.0]]))
                self.b.weight.copy_(torch.tensor([[-3.0], [1.0]]))
                self.out.weight.fill_(1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.a(x) + self.b(x))

    x = torch.ones(1, 1)
    assert scores_of(Two(), x, "synflow+gate")[1][1:].tolist() == [0.0, 2.0]
    assert scores_of(Two(), x, "synflow-absolute+mean")[1][1:].tolist() == [3.0, 1.0]


def three_groups() -> DependencyGraph:
    return DependencyGraph.of(
        nn.Sequential(nn.Linear(2, 7), nn.Linear(7, 5), nn.Linear(5, 6), nn.Linear(6, 1)), torch.ones(1, 2)
    )


def literal_lamp(scores: list[float]) -> list[float]:
    """Lee et al. 2021, eq. 3: W[u]^2 / sum_{v >= u} W[v]^2, the indices sorted so that u < v means |W[u]| <= |W[v]|."""
    order = sorted(range(len(scores)), key=lambda u: scores[u])
    result = [0.0] * len(scores)
    for place, u in enumerate(order):
        rest = math.fsum(scores[v] ** 2 for v in order[place:])
        result[u] = scores[u] ** 2 / rest if rest else 0.0
    return result


@pytest.mark.parametrize("seed", range(20))
def test_lamp_by_its_definition(seed: int) -> None:
    graph, rng = three_groups(), np.random.default_rng(seed)
    scores = rng.exponential(size=graph.unit_count + 1) * 10.0 ** rng.integers(-6, 6, size=graph.unit_count + 1)
    scores[rng.random(len(scores)) < 0.2] = 0.0  # zeros
    for a, b in itertools.pairwise(rng.permutation(np.arange(1, len(scores)))[:6]):
        scores[a] = scores[b]  # ties
    if seed == 0:
        scores[list(graph.groups[1].units)] = 0.0
    result = lamp(scores, graph)
    for group in graph.groups:
        units = list(group.units)
        assert result[units] == pytest.approx(literal_lamp(scores[units].tolist()), rel=1e-9)
        assert scores[units].max() == 0 or result[units].max() == 1.0, "the best of every group is never the worst"


def test_lamp_leaves_out_what_is_not_judged_and_overflows_nothing() -> None:
    graph = three_groups()
    scores = np.full(graph.unit_count + 1, 1e300)
    scores[graph.groups[0].units[0]] = np.inf
    result = lamp(scores, graph)
    first = [result[u] for u in graph.groups[0].units]
    assert first[0] == np.inf and first[1:] == pytest.approx([1 / 6, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 1])


def test_lamp_refuses_what_squares_would_turn_around() -> None:
    with pytest.raises(InputError, match=r"lamp needs scores that are not negative; got -1\.5: take .* absolute"):
        lamp(np.array([0.0, *[-1.5] * 18]), three_groups())


def test_group_means_by_hand() -> None:
    graph = three_groups()
    scores = np.zeros(graph.unit_count + 1)
    scores[list(graph.groups[0].units)] = [1, 2, 3, 4, 5, 6, np.inf]  # mean 3.5 of those that are judged
    scores[list(graph.groups[1].units)] = [-10, 0, 0, 0, 10]  # mean magnitude 4
    result = by_group_mean(scores, graph)
    assert result[list(graph.groups[0].units)] == pytest.approx(np.array([1, 2, 3, 4, 5, 6, np.inf]) / 3.5)
    assert result[list(graph.groups[1].units)].tolist() == [-2.5, 0, 0, 0, 2.5]
    assert result[list(graph.groups[2].units)].tolist() == [0] * 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("magnitud+max", r"unknown scorer 'magnitud' \(did you mean 'magnitude'\?\)"),
        ("magnitude+lmap", r"unknown part of 'magnitude\+lmap': 'lmap' \(did you mean 'lamp'\?\)"),
        ("magnitude+", r"unknown part of 'magnitude\+': ''"),
        ("magnitude+max+lamp+sum", r"has 2 reductions, max and sum; name one"),
        ("magnitude+lamp+group-mean", r"has 2 normalisers, lamp and group-mean; name one"),
        ("magnitude+max+max", r"has 2 reductions, max and max; name one"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_scorer(name)


def test_parts_of_one_scorer_are_not_those_of_the_next() -> None:
    combined = make_scorer("magnitude+max+lamp")
    assert combined.title == "magnitude+max+lamp"
    assert make_scorer("magnitude").reduce is not combined.reduce
    assert make_scorer("magnitude").normalise is not combined.normalise
