"""Sizes of images."""

from __future__ import annotations

import math


def pixels_of(share: float, full: int) -> int:
    """The side of an image in whole pixels, at a share of its full side.

    >>> pixels_of(0.5, 32), pixels_of(0.5, 9), pixels_of(0.01, 8)
    (16, 5, 1)
    """
    return max(1, math.floor(share * full + 0.5))
