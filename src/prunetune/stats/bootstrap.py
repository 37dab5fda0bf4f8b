"""How well a judge of configurations does: rank correlation with the truth, regret of its choice, intervals.

Scores are better the higher; -inf is that of a training that came to nothing. ``truth`` (N,) is what the full network
really makes of each of N configurations: the mean over seeds that take no part in any choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = NDArray[np.float64]

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and the limits of its 95 % interval; None where that many values have none."""

    mean: float | None
    low: float | None = None
    high: float | None = None


def rank_correlations(judged: Scores, truth: Scores) -> Scores:
    """Spearman's of each row of ``judged`` (…, N) with ``truth`` (N,) or (…, N); NaN where either is constant.

    >>> rank_correlations(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]]), np.array([30.0, 10.0, 20.0])).tolist()
    [1.0, nan]
    """
    from scipy.stats import rankdata

    a, b = (rankdata(scores, axis=-1) for scores in np.broadcast_arrays(judged, truth))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    spread = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (a * b).sum(axis=-1) / np.where(spread > 0, spread, 1.0), np.nan)


def rank_correlation(judged: Scores, truth: Scores) -> Estimate:
    """Mean over seeds of the rank correlation of ``judged`` (seeds, N) with ``truth`` (N,).

    The interval is a percentile bootstrap: of configurations, the same for all seeds, and of seeds. Resamples and
    seeds in which either side is constant have no rank correlation and are left out; there is no mean where all are.
    """
    found = rank_correlations(judged, truth)
    if np.isnan(found).all():
        return Estimate(None)
    generator = np.random.default_rng(0)
    seeds, count = judged.shape
    places = generator.integers(0, count, (RESAMPLES, 1, count))
    rows = generator.integers(0, seeds, (RESAMPLES, seeds, 1)) if seeds > 1 else np.zeros((RESAMPLES, 1, 1), np.intp)
    each = rank_correlations(judged[rows, places], truth[places])
    usable = each[~np.isnan(each).all(axis=1)]
    low, high = np.percentile(np.nanmean(usable, axis=1), _tails()) if len(usable) else (-1.0, 1.0)
    return Estimate(float(np.nanmean(found)), float(low), float(high))


def _tails() -> tuple[float, float]:
    return 50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)


def ranking(scores: Scores) -> NDArray[np.intp]:
    """The configurations from best to worst; of equal ones the earlier is first."""
    return np.argsort(-scores, kind="stable")


def confirmed(scores: Scores, chooser: Scores, count: int) -> int:
    """Of the first ``count`` by ``scores`` (N,) the one that is best by ``chooser`` (N,), the full network's own.

    >>> confirmed(np.array([5.0, 1.0, 4.0]), np.array([0.1, 0.9, 0.2]), 2)
    2
    """
    first = ranking(scores)[:count]
    return int(first[np.argmax(chooser[first])])


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed, and Student's interval, which a single value has not.

    >>> over_seeds([1.0, 3.0]).mean, round(over_seeds([1.0, 3.0]).high, 3)  # t of 1 degree of freedom: 12.706
    (2.0, 14.706)
    """
    from scipy.stats import t

    mean, count = math.fsum(values) / len(values), len(values)
    if count == 1:
        return Estimate(mean)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half)


def mean_truth(trained: Scores) -> Scores:
    """The truth (N,) from the full network's ``trained`` scores (seeds, N).

    A training that came to nothing counts as the worst of its seed that came to something, so that the mean says
    something, and 0 where nothing did.
    """
    finite = np.isfinite(trained)
    worst = np.where(finite, trained, np.inf).min(axis=1, keepdims=True)
    worst = np.where(np.isfinite(worst), worst, 0.0)
    means: Scores = np.where(finite, trained, worst).mean(axis=0)
    return means
