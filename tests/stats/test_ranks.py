"""Rank correlations, against scipy, against simulations and against hand-worked limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from prunetune.stats.ranks import RankCorrelation, spearman


def normal_pairs(rho: float, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal pairs with correlation ``rho``."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(shape)
    return first, rho * first + math.sqrt(1 - rho**2) * rng.standard_normal(shape)


def test_one_swap_among_five_is_nine_tenths() -> None:
    found = spearman([1, 2, 3, 4, 5], [10, 30, 20, 40, 50])  # 1 - 6 (1 + 1) / (125 - 5)
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(0.9), 5)


def test_ties_and_infinities_are_scipys() -> None:
    first = [0.1, 0.4, -math.inf, 0.4, 0.9, -math.inf, 0.3]
    second = [0.2, 0.5, 0.1, -math.inf, 0.8, -math.inf, 0.3]
    found = spearman(first, second)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic)


@pytest.mark.parametrize("n", [8, 30])
def test_the_interval_is_scipys_fisher_interval_of_the_ranks_times_bonett_and_wrights_factor(n: int) -> None:
    first, second = normal_pairs(0.7, (n,), seed=n)
    found = spearman(first.tolist(), second.tolist())
    assert found is not None
    fisher = stats.pearsonr(stats.rankdata(first), stats.rankdata(second)).confidence_interval(0.95)
    factor = math.sqrt(1 + found.value**2 / 2)
    for ours, scipys in ((found.low, fisher.low), (found.high, fisher.high)):
        z = math.atanh(found.value)
        assert math.atanh(ours) - z == pytest.approx((math.atanh(scipys) - z) * factor)


@pytest.mark.parametrize(("n", "rho"), [(5, 0.5), (8, 0.0), (8, 0.9), (12, 0.8), (24, 0.95)])
def test_about_19_in_20_intervals_hold_the_truth(n: int, rho: float) -> None:
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's correlation of two normal variables
    pairs = zip(*normal_pairs(rho, (600, n), seed=1), strict=True)
    found = [spearman(first.tolist(), second.tolist()) for first, second in pairs]
    assert np.mean([each is not None and each.low <= truth <= each.high for each in found]) > 0.92


def test_a_perfect_order_of_eight_is_not_certain() -> None:
    found = spearman(range(8), range(8))
    assert found is not None
    assert found.value == found.high == 1
    nearly = 1 - 12 / 504  # one swap of neighbours
    error = math.sqrt((1 + nearly**2 / 2) / 5)
    assert found.low == pytest.approx(math.tanh(math.atanh(nearly) - 1.959964 * error), abs=1e-6)
    mirrored = spearman(range(8), range(8, 0, -1))
    assert mirrored is not None
    assert (mirrored.value, mirrored.low, mirrored.high) == (-1, -1, -found.low)


def test_three_say_nothing_and_two_less() -> None:
    assert spearman([1, 2, 3], [1, 3, 2]) == RankCorrelation(0.5, -1.0, 1.0, 3)
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]) is None
