"""Rank correlations of scores, how sure they are, and what they say of the best that a ranking misses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

CONFIDENCE: Final = 0.95
NODES: Final = 64  # of each quadrature; even, so that none is at 0, where Owen's T has no slope
Z_NODES: Final = 16


@dataclass(frozen=True)
class Belief:
    """What is known of a rank correlation (Spearman's): its Fisher transform is normal, ``z`` ± ``error``."""

    z: float
    error: float

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The limits that the correlation is within, with this probability."""
        from scipy.special import ndtri

        width = float(ndtri((1 + confidence) / 2)) * self.error
        return math.tanh(self.z - width), math.tanh(self.z + width)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of ``n`` pairs, with the limits of its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def belief(self) -> Belief | None:
        """Its sampling distribution; None for fewer than four pairs, which have none."""
        return _belief(self.value, self.n)


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
    belief = _belief(value, n)
    low, high = belief.interval() if belief is not None else (-1.0, 1.0)
    return -1.0 if value < -_short_of_perfect(n) else low, 1.0 if value > _short_of_perfect(n) else high


def _short_of_perfect(n: int) -> float:
    """The rank correlation of two orders of ``n`` that differ by one swap of neighbours: 1 - 6 · 2 / (n³ - n)."""
    return 1 - 12 / (n**3 - n)


def _belief(value: float, n: int) -> Belief | None:
    if n < 4:
        return None
    most = _short_of_perfect(n)
    value = min(most, max(-most, value))
    return Belief(math.atanh(value), math.sqrt((1 + value**2 / 2) / (n - 3)))


def pairs_in_order(first: Sequence[float], second: Sequence[float]) -> tuple[int, int]:
    """How many pairs both lists of scores put into the same order, and how many pairs there are without a tie.

    Kendall's tau is twice the share of the first in the second, minus 1.

    >>> pairs_in_order([3, 2, 1], [30, 10, 20])
    (2, 3)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    i, j = np.triu_indices(len(a), 1)
    both = [_signs(scores, i, j) for scores in (a, b)]
    agreement = both[0] * both[1]
    return int((agreement > 0).sum()), int((agreement != 0).sum())


def _signs(scores: Any, i: Any, j: Any) -> Any:
    return (scores[i] > scores[j]).astype(int) - (scores[i] < scores[j]).astype(int)  # inf - inf would be nan


def chance_missed(belief: Belief, searched: int, confirmed: int) -> float:
    """The probability that the best of ``searched`` configurations is not among the ``confirmed`` that rank first.

    The mean of ``chance_missed_at`` over what is believed of the rank correlation; the Gaussian copula of Spearman's
    r has the Pearson correlation 2 sin(πr/6) (Kruskal, JASA 53, 1958).
    """
    z, weights = np.polynomial.hermite_e.hermegauss(Z_NODES)
    weights = weights / weights.sum()
    believed = np.tanh(belief.z + belief.error * z)
    chances = [chance_missed_at(2 * math.sin(math.pi * r / 6), searched, confirmed) for r in believed]
    return float(weights @ np.array(chances))


def chance_missed_at(rho: float, searched: int, confirmed: int) -> float:
    """``chance_missed`` where both scores are normal with correlation ``rho``, configurations independent.

    Given the base's best, with base score b (the largest of n) and proxy score p ~ N(ρb, 1 - ρ²), each of the others
    is above it on the proxy with probability q(b, p) = P(P > p, B < b) / P(B < b). The best is missed if that happens
    to ``confirmed`` of them or more, so the probability is the mean over b and p of the upper tail of Binomial(n - 1,
    q); the bivariate normal probability is by Owen's T, both means are Gauss quadratures, good to 0.001.

    >>> round(chance_missed_at(0.0, 20, 3), 6), chance_missed_at(1.0, 20, 3)
    (0.85, 0.0)
    """
    if confirmed >= searched or rho >= 1:
        return 0.0
    if rho <= -1:
        return 1.0
    from scipy.special import bdtrc, ndtr, ndtri, owens_t

    u, over_b = np.polynomial.legendre.leggauss(NODES)  # of the share of maxima below b, -1..1
    z, over_p = np.polynomial.hermite_e.hermegauss(NODES)
    b = -ndtri(-np.expm1(np.log((u + 1) / 2) / searched))[:, None]
    s = math.sqrt(1 - rho**2)
    p = rho * b + s * z
    tails = owens_t(b, (rho * b - p) / (b * s)) + owens_t(-p, (b - rho * p) / (-p * s))  # P(B < b, -P < -p): r = -rho
    both = (ndtr(b) + ndtr(-p)) / 2 - tails - np.where(b * p > 0, 0.5, 0.0)
    above = np.clip(both / ndtr(b), 0.0, 1.0)
    missed = bdtrc(confirmed - 1, searched - 1, above)  # the upper tail of the binomial distribution
    return float(min(1.0, max(0.0, over_b / 2 @ missed @ (over_p / over_p.sum()))))
