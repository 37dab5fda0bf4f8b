"""Algorithm 1 and the ratio, against numbers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunetune.engine import DependencyGraph, PruningPlan, by_percentile, by_ratio
from prunetune.errors import InputError, PlanError


def chain(*widths: int) -> DependencyGraph:
    """Linear layers of these widths; each inner width is a group."""
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return DependencyGraph.of(nn.Sequential(*layers), torch.ones(1, widths[0]))


def scored(graph: DependencyGraph, *groups: list[float]) -> np.ndarray:
    scores = np.zeros(graph.unit_count + 1)
    for group, values in zip(graph.groups, groups, strict=True):
        scores[list(group.units)] = values
    return scores


def test_percentile_by_hand() -> None:
    graph = chain(3, 4, 6, 2)
    # Ten units. p = 60: the six lowest go, 1 2 3 4 5 6; the threshold is the 7th lowest, 7.
    scores = scored(graph, [1, 9, 2, 3], [7, 4, 8, 5, 6, 10])
    keep = by_percentile(graph, scores, percentile=60, floor=0.1)
    first, second = (keep[list(g.units)].tolist() for g in graph.groups)
    assert first == [False, True, False, False]
    assert second == [True, False, True, False, False, True]


def test_floor_by_hand() -> None:
    graph = chain(3, 4, 6, 2)
    # The first layer is worth less than all of the second; ceil(0.3 * 4) = 2 of it stay, the best: 4 and 3.
    scores = scored(graph, [1, 4, 2, 3], [11, 12, 13, 14, 15, 16])
    keep = by_percentile(graph, scores, percentile=40, floor=0.3)
    assert keep[list(graph.groups[0].units)].tolist() == [False, True, False, True]
    assert keep[list(graph.groups[1].units)].all()


def test_the_papers_floor_does_not_round_up_by_a_rounding_error() -> None:
    graph = chain(3, 20, 2)
    # 0.15 * 20 is 3.0000000000000004 / 2.9999999999999996 in floating point; the paper's ceil(3) is 3.
    keep = by_percentile(graph, scored(graph, list(range(20))), percentile=95, floor=0.15)
    assert keep[1:].sum() == 3


def test_ratio_keeps_that_share_of_every_group() -> None:
    graph = chain(3, 4, 7, 2)
    keep = by_ratio(graph, scored(graph, [4, 3, 2, 1], [1, 2, 3, 4, 5, 6, 7]), ratio=0.5)
    assert keep[list(graph.groups[0].units)].tolist() == [True, True, False, False]
    assert keep[list(graph.groups[1].units)].tolist() == [False] * 3 + [True] * 4  # round(3.5) = 4


@given(st.lists(st.floats(-1e3, 1e3), min_size=30, max_size=30), st.floats(0, 99), st.floats(0.01, 1))
def test_percentile_properties(values: list[float], percentile: float, floor: float) -> None:
    graph = CHAIN
    scores = scored(graph, values[:10], values[10:])
    keep = by_percentile(graph, scores, percentile=percentile, floor=floor)
    for group in graph.groups:
        units = list(group.units)
        assert keep[units].sum() >= floor * len(units) - 1e-6
        if (~keep[units]).any():  # nothing worse than what went stays in the same group
            assert scores[units][keep[units]].min() >= scores[units][~keep[units]].max()


CHAIN = chain(3, 10, 20, 2)


@pytest.mark.parametrize("percentile", [-1, 100, 250.0, float("nan")])
def test_impossible_percentile(percentile: float) -> None:
    with pytest.raises(InputError, match="percentile must be at least 0 and below 100; got"):
        by_percentile(CHAIN, np.zeros(31), percentile=percentile, floor=0.15)


@pytest.mark.parametrize("floor", [0, -0.1, 1.1])
def test_impossible_floor(floor: float) -> None:
    with pytest.raises(InputError, match="floor must be over 0 and at most 1; got"):
        by_percentile(CHAIN, np.zeros(31), percentile=85, floor=floor)


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5])
def test_impossible_ratio(ratio: float) -> None:
    with pytest.raises(InputError, match="ratio must be over 0 and at most 1"):
        by_ratio(CHAIN, np.zeros(31), ratio=ratio)


def test_a_plan_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="leaves nothing of 0.weight"):
        PruningPlan.of(CHAIN, np.zeros(31, dtype=bool))
