"""Intervals by resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 10_000
FEW: Final = 5
"""Columns below which there is no interval."""


def interval(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], columns: NDArray[np.float64]
) -> list[float] | None:
    """The middle 95 % of a statistic over resampled columns (bootstrap, percentiles); None for fewer than `FEW`.

    What is in a column stays together, so that pairs remain pairs.

    Parameters
    ----------
    statistic
        From (..., columns) to one number for each of what comes before the last axis but the first.
    columns
        (rows, columns), or (columns,).
    """
    count = columns.shape[-1]
    if count < FEW:
        return None
    picks = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    low, high = np.percentile(statistic(columns[..., picks]), [2.5, 97.5])
    return [float(low), float(high)]
