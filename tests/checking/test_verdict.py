"""The rule of the verdict, case by case, and how often it errs on proxies whose quality is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prunetune.checking.verdict import configurations_for, too_few, verdict
from prunetune.stats.ranks import RankCorrelation, spearman

CEILING = RankCorrelation(0.95, 0.8, 0.99, 8)


@pytest.mark.parametrize(
    ("proxy", "ceiling", "ratio", "word", "why"),
    [
        (RankCorrelation(0.9, 0.4, 0.98, 8), CEILING, 3.0, "use", "use this proxy: rank correlation 0.90 [0.40, 0.98]"),
        (RankCorrelation(0.76, 0.3, 0.9, 24), CEILING, 1.2, "use", "a trial on it is 1.2 times as cheap"),
        (RankCorrelation(0.75, 0.3, 0.9, 24), CEILING, 3.0, "larger", "use a larger proxy: rank correlation 0.75"),
        (RankCorrelation(0.3, 0.1, 0.6, 24), CEILING, 3.0, "larger", "whose own is 0.95 [0.80, 0.99]"),
        (RankCorrelation(0.8, 0.2, 0.95, 8), CEILING, 3.0, "unclear", "too few to tell: rank correlation 0.80"),
        (RankCorrelation(0.8, 0.2, 0.95, 8), CEILING, 3.0, "unclear", "check with 12 or more configurations"),
        (RankCorrelation(0.2, -0.1, 0.47, 40), CEILING, 3.0, "don't", "don't use this proxy: rank correlation 0.20"),
        (RankCorrelation(-1, -1, -0.8, 8), CEILING, 3.0, "don't", "don't use this proxy: rank correlation -1.00"),
        (RankCorrelation(1, 0.8, 1, 8), CEILING, 1.1, "don't", "a trial on it is only 1.1 times as cheap"),
        (RankCorrelation(1, 0.8, 1, 8), RankCorrelation(0.4, -0.4, 0.8, 8), 3.0, "unclear", "with another seed orders"),
        (None, CEILING, 3.0, "unclear", "too few configurations came to different scores"),
        (CEILING, None, 3.0, "unclear", "too few configurations"),
        (CEILING, CEILING, None, "unclear", "too few configurations"),
    ],
)
def test_the_rule(
    proxy: RankCorrelation | None, ceiling: RankCorrelation | None, ratio: float | None, word: str, why: str
) -> None:
    found = verdict(proxy, ceiling, ratio)
    assert found.word == word
    assert why in found.sentence


def words(rho: float, n: int) -> list[str]:
    """Verdicts on 200 proxies whose scores correlate with the full network's by ``rho``; its own do by 0.97."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        base = rng.standard_normal(n)
        again, proxy = (r * base + math.sqrt(1 - r**2) * rng.standard_normal(n) for r in (0.97, rho))
        ceiling = spearman(base.tolist(), again.tolist())
        found.append(verdict(spearman(proxy.tolist(), base.tolist()), ceiling, 3.0).word)
    return found


def test_with_eight_configurations_it_errs_rarely() -> None:
    assert words(0.0, 8).count("use") <= 4  # 2 %
    assert words(0.5, 8).count("use") <= 20
    assert words(0.95, 8).count("don't") == 0
    assert words(0.95, 8).count("use") >= 120


def test_with_more_it_can_tell() -> None:
    assert words(0.0, 24).count("don't") >= 100
    assert words(0.0, 24).count("use") == 0
    assert words(0.95, 24).count("use") >= 190
    assert words(0.6, 40).count("larger") >= 130


def test_how_many_configurations_make_a_correlation_sure() -> None:
    """By hand, of 0.8: atanh 0.8 - 1.96 sqrt(1.32 / (n - 3)) >= atanh 0.3 gives n >= 11.14."""
    assert configurations_for(0.8) == 12
    assert configurations_for(0.3) is None


@pytest.mark.parametrize("n", range(3, 12))
def test_a_check_says_beforehand_whether_it_can_find_a_proxy_good(n: int) -> None:
    """By what the rule makes of perfect orders of so many configurations."""
    order = list(range(n))
    perfect = spearman(order, order)
    assert bool(too_few(n)) == (verdict(perfect, perfect, 5.0).word != "use")
