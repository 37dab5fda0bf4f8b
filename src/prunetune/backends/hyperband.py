"""Hyperband (Li et al. 2018) in Optuna's asynchronous form: at certain epochs only the best third of trials goes on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

from optuna.pruners import HyperbandPruner

from prunetune.backends.checks import whole_number

MIN_EPOCHS: Final = 1
SMALLEST_FACTOR: Final = 3  # that of the Hyperband paper, section 2.6
MOST_BRACKETS: Final = 5


@dataclass(frozen=True)
class Rungs:
    """The arithmetic of one Hyperband: at each rung one in ``reduction_factor`` trials goes on."""

    reduction_factor: int
    brackets: tuple[tuple[int, ...], ...]
    """For each bracket the epochs (counted from 1) after which its trials may be stopped."""

    def __str__(self) -> str:
        stops = "; ".join(", ".join(map(str, bracket)) or "never" for bracket in self.brackets)
        return (
            f"{len(self.brackets)} brackets, one trial in {self.reduction_factor} goes on, stops after epoch: {stops}"
        )


def describe(epochs: int) -> Rungs:
    """The rungs of a search whose trials have ``epochs`` epochs.

    The last epoch is no rung: a trial that has come so far has cost all that it can.

    >>> describe(9).brackets
    ((1, 3), (3,), ())
    >>> print(describe(5))
    2 brackets, one trial in 3 goes on, stops after epoch: 1, 3; 3
    """
    whole_number("epochs", epochs, minimum=1)
    factor = _reduction_factor(epochs)
    powers = [MIN_EPOCHS * factor**k for k in range(epochs.bit_length() + 1)]
    rungs = tuple(power for power in powers if power < epochs)
    return Rungs(factor, tuple(rungs[bracket:] for bracket in range(_bracket_count(epochs, factor))))


def hyperband(epochs: int) -> HyperbandPruner:
    """Only the best third of trials goes on at certain epochs, 1 to ``epochs``, which differ from bracket to bracket.

    Which bracket a trial is in is a hash of the study's name and the trial's number, so the name must stay the same.
    """
    return HyperbandPruner(min_resource=MIN_EPOCHS, max_resource=epochs, reduction_factor=_reduction_factor(epochs))


def _reduction_factor(epochs: int) -> int:
    """The smallest factor from 3 on with at most five brackets, more being of no use (Optuna's advice: 4 to 6)."""
    return next(f for f in itertools.count(SMALLEST_FACTOR) if _bracket_count(epochs, f) <= MOST_BRACKETS)


def _bracket_count(epochs: int, factor: int) -> int:
    return math.floor(math.log(epochs / MIN_EPOCHS, factor)) + 1  # as Optuna computes it, rounding errors included
