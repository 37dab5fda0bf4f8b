"""The arithmetic of successive halving: at which epochs trials are stopped, and what that saves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MIN_EPOCHS: Final = 1
SMALLEST_FACTOR: Final = 3  # that of the Hyperband paper, section 2.6
MOST_BRACKETS: Final = 5


@dataclass(frozen=True)
class Rungs:
    """At each rung one in ``reduction_factor`` trials goes on."""

    reduction_factor: int
    brackets: tuple[tuple[int, ...], ...]
    """For each bracket the epochs (counted from 1) after which its trials may be stopped."""
    epochs: int
    """Those of a trial that is not stopped."""
    shares: tuple[float, ...]
    """Of all trials, the share of each bracket."""

    def __str__(self) -> str:
        best = {3: "the best third", 4: "the best quarter"}.get(
            self.reduction_factor, f"the best 1 in {self.reduction_factor}"
        )
        stops = [_after(bracket) for bracket in self.brackets]
        if len(stops) == 1:
            return f"{stops[0]} {best} continues"
        return f"{len(stops)} brackets, in which {best} continues: {'; '.join(stops)}"

    def expected_epochs(self, n_trials: int) -> float:
        """Epochs a trial, on average, in a search of so many trials, none of which is more promising than another."""
        total = 0.0
        for rungs, share in zip(self.brackets, self.shares, strict=True):
            ends = (*rungs, self.epochs)
            here = self._survivors(len(rungs), share * n_trials)
            total += sum(n * (end - start) for n, start, end in zip(here, (0, *ends), ends, strict=False))
        return total / n_trials

    def expected_complete(self, n_trials: int) -> float:
        """How many of so many trials come to their last epoch, on average."""
        return sum(
            self._survivors(len(rungs), share * n_trials)[-1]
            for rungs, share in zip(self.brackets, self.shares, strict=True)
        )

    def _survivors(self, rungs: int, trials: float) -> list[float]:
        """How many trials train before the first rung, behind it, behind the second, …"""
        survivors = [trials]
        for _ in range(rungs):
            survivors.append(_promoted(survivors[-1], self.reduction_factor))
        return survivors


def _after(epochs: tuple[int, ...]) -> str:
    """When the trials of a bracket are compared, in words."""
    if not epochs:
        return "nobody is stopped"
    return f"after {'epoch' if len(epochs) == 1 else 'epochs'} {', '.join(map(str, epochs))}"


def _promoted(trials: float, factor: int) -> float:
    """How many of the trials that come to a rung one after another go on, on average.

    As Optuna decides: the n-th to come goes on if it is among the best ``max(1, n // factor)`` of the n so far.
    """
    whole = math.floor(trials)
    chances = [max(1, n // factor) / n for n in range(1, whole + 2)]
    return sum(chances[:whole]) + (trials - whole) * chances[whole]


def powers_below(epochs: int, factor: int) -> tuple[int, ...]:
    """1, factor, factor², … below ``epochs``: after the last epoch there is nothing to be saved."""
    powers = (MIN_EPOCHS * factor**k for k in itertools.count())
    return tuple(itertools.takewhile(lambda power: power < epochs, powers))


def reduction_factor(epochs: int) -> int:
    """The smallest factor from 3 on with at most five brackets, more being of no use (Optuna's advice: 4 to 6)."""
    return next(f for f in itertools.count(SMALLEST_FACTOR) if bracket_count(epochs, f) <= MOST_BRACKETS)


def bracket_count(epochs: int, factor: int) -> int:
    """As Optuna computes it, rounding errors included."""
    return math.floor(math.log(epochs / MIN_EPOCHS, factor)) + 1


def shares(sizes: Sequence[int]) -> tuple[float, ...]:
    """Each size as a share of all."""
    return tuple(size / sum(sizes) for size in sizes)
