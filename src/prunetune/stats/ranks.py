"""Rank correlations of scores, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of ``n`` pairs, with the limits of its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def spearman(first: Sequence[float], second: Sequence[float]) -> RankCorrelation | None:
    """The rank correlation of two equally long lists of scores; None for fewer than three, or if one is constant.

    Scores may be infinite; equal ones share their mean rank. The interval is Fisher's, with the variance
    (1 + r²/2) / (n - 3) of Bonett & Wright (Psychometrika 65, 2000). A perfect order has no variance there, although
    a few pairs are in perfect order now and then by chance: its interval is that of one pair of neighbours swapped,
    its end moved to 1. With three pairs the interval is -1 to 1.
    """
    from scipy.stats import spearmanr

    n = len(first)
    if n < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    value = float(spearmanr(first, second).statistic)
    value = round(min(1.0, max(-1.0, value)), 12)
    return RankCorrelation(value, *interval_of(value, n), n)


def interval_of(value: float, n: int) -> tuple[float, float]:
    """The limits of the 95 % interval of a rank correlation of ``n`` pairs, at least three; see ``spearman``."""
    if n < 4:
        return -1.0, 1.0
    from scipy.special import ndtri

    most = 1 - 12 / (n**3 - n)  # two orders that differ by one swap of neighbours: 1 - 6 · 2 / (n³ - n)
    within = min(most, max(-most, value))
    z, error = math.atanh(within), math.sqrt((1 + within**2 / 2) / (n - 3))
    width = float(ndtri((1 + CONFIDENCE) / 2)) * error
    return -1.0 if value < -most else math.tanh(z - width), 1.0 if value > most else math.tanh(z + width)
