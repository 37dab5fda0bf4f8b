"""The bootstrap, rankings and intervals over seeds, against numbers worked out by hand and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from prunetune.stats.bootstrap import (
    confirmed,
    mean_truth,
    over_seeds,
    rank_correlation,
    rank_correlations,
    ranking,
)


def test_rank_correlations_are_scipys() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, 30).astype(float)  # with ties
    judged = random.normal(size=(7, 30)) + 0.5 * truth
    judged[3, :4] = -math.inf  # diverged
    expected = [spearmanr(row, truth).statistic for row in judged]
    assert rank_correlations(judged, truth) == pytest.approx(expected)


def test_a_constant_side_has_no_rank_correlation() -> None:
    judged = np.array([[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    found = rank_correlation(judged, np.array([3.0, 2.0, 1.0]))
    assert found.mean == pytest.approx(1.0)  # of the seed that has one
    nothing = rank_correlation(judged[:1], np.array([3.0, 2.0, 1.0]))
    assert (nothing.mean, nothing.low, nothing.high) == (None, None, None)


def test_the_bootstrap_covers_what_it_should() -> None:
    """Of a bivariate normal distribution Spearman's correlation is 6 / pi asin(rho / 2); 95 % intervals, 60 draws."""
    rho, covered = 0.8, 0
    expected = 6 / math.pi * math.asin(rho / 2)
    for seed in range(60):
        random = np.random.default_rng(seed)
        truth = random.normal(size=40)
        judged = rho * truth + math.sqrt(1 - rho**2) * random.normal(size=40)
        found = rank_correlation(judged[None], truth)
        assert found.low is not None and found.mean is not None and found.high is not None
        assert found.low <= found.mean <= found.high
        covered += found.low <= expected <= found.high
    assert 52 <= covered <= 60  # 57 expected; fewer than 52 has a probability of 0.01


def test_choices_by_hand() -> None:
    scores = np.array([0.3, 0.9, 0.9, -math.inf, 0.5])
    assert ranking(scores).tolist() == [1, 2, 4, 0, 3]
    chooser = np.array([1.0, 0.2, 0.4, 0.8, 0.3])
    assert [confirmed(scores, chooser, count) for count in (1, 2, 3, 4, 5)] == [1, 2, 2, 0, 0]


def test_intervals_over_seeds_are_students() -> None:
    found = over_seeds([2.0, 4.0, 6.0])  # s = 2, t of two degrees of freedom 4.30265
    assert found.mean == 4.0
    assert found.high is not None and found.low is not None
    assert found.high - 4 == pytest.approx(4.30265 * 2 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(8 - found.high)
    assert over_seeds([5.0]).low is None


def test_what_came_to_nothing_counts_as_the_worst_of_its_seed() -> None:
    trained = np.array([[0.5, -math.inf, 0.7], [0.9, 0.3, 0.2]])
    assert mean_truth(trained).tolist() == pytest.approx([0.7, 0.4, 0.45])
    assert mean_truth(np.full((2, 3), -math.inf)).tolist() == [0.0, 0.0, 0.0]
