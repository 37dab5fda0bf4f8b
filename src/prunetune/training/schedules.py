"""Learning-rate schedules: functions ``(progress, decay) -> factor``, progress from 0 (first step) towards 1 (the end).

They depend on the share of the training that is done, so that a training of any number of epochs ends its schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

Schedule: TypeAlias = Callable[[float, float], float]


def cosine(progress: float, decay: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter 2016, one period); ``decay`` has no part in it.

    >>> cosine(0.5, 0.1)
    0.5
    """
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def step(progress: float, decay: float) -> float:
    """1, then ``decay`` from half of the training on, then its square from three quarters on.

    The paper's schedule: 0.1 at epochs 80 and 120 of 160.

    >>> [step(epoch / 160, 0.5) for epoch in (79, 80, 120)]
    [1.0, 0.5, 0.25]
    """
    return math.pow(decay, (progress >= 0.5) + (progress >= 0.75))


SCHEDULES: Final[dict[str, Schedule]] = {"cosine": cosine, "step": step}
