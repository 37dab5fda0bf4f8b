"""Ladders of rungs, replayed on a table: which configuration they choose, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.ladders.cases import FULL, Scores, Table

BELOW: Final = 0.5
"""How much the rank on the rung below counts beside the rank on a rung."""


@dataclass(frozen=True)
class Rung:
    """So many trainings of one way; the next rung's number says how many go on, the best of them."""

    way: str
    trials: int


Ladder: TypeAlias = tuple[Rung, ...]
"""The last rung trains the full network; the best of it is the result, with its weights."""
Shape: TypeAlias = Callable[[Table, float], Ladder | None]
"""The ladder that a way to search makes of a total cost; None if that is too little."""


def parsed(text: str) -> Ladder:
    """The ladder that a text describes. Raises ValueError.

    >>> parsed("8 quarter width > 1 full")
    (Rung(way='quarter width', trials=8), Rung(way='full', trials=1))
    """
    rungs = []
    for part in text.split(">"):
        count, _, way = part.strip().partition(" ")
        if not count.isdigit() or not int(count) or not way.strip():
            raise ValueError(f"{part.strip()!r} must be a number and a way to train, such as '8 quarter width'")
        rungs.append(Rung(way.strip(), int(count)))
    counts = [rung.trials for rung in rungs]
    if rungs[-1].way != FULL or counts != sorted(counts, reverse=True):
        raise ValueError(
            f"{text!r} must end with a rung of {FULL!r}, and no rung may have more trials than the one below"
        )
    return tuple(rungs)


def cost(ladder: Ladder, table: Table) -> float:
    """In full trainings, the winner's included."""
    return sum(rung.trials * table.cost[rung.way] for rung in ladder)


def equal_shares(table: Table, budget: float, ways: Sequence[str], last: int = 1) -> Ladder | None:
    """A ladder of these ways and ``last`` full trainings, which spends equally on each rung below the last.

    What rounding and the number of configurations leave over raises the first number first.
    """
    most = len(table.truth)
    prices = [table.cost[way] for way in ways]
    counts: list[int] = []
    for price in prices:
        counts.append(min(_affordable((budget - last) / len(ways), price), counts[-1] if counts else most))
    if min(counts) < last or counts[0] < 2:
        return None
    for place, price in enumerate(prices):
        left = budget - last - sum(count * each for count, each in zip(counts, prices, strict=True))
        counts[place] += min(_affordable(left, price), (counts[place - 1] if place else most) - counts[place])
    return (*(Rung(way, count) for way, count in zip(ways, counts, strict=True)), Rung(FULL, last))


def _affordable(money: float, price: float) -> int:
    return int(money / price + 1e-9)  # a sum of tenths is a little less than what it should be


def chosen(ladder: Ladder, table: Table, orders: NDArray[np.intp]) -> NDArray[np.intp]:
    """The place of the configuration (D,) that a ladder chooses if configurations come in these orders (D, N).

    On each rung the best go on: by their rank there, plus `BELOW` times their rank on the rung below. Of full trainings
    the best is chosen by its own score.
    """
    candidates = orders[:, : ladder[0].trials]
    below: Scores | None = None
    for rung, above in zip(ladder, (*ladder[1:], None), strict=True):
        scores = table.scores[rung.way]
        places = _ranks(scores[candidates])
        if below is not None and above is not None:
            places = places + BELOW * _ranks(below[candidates])
        best = np.argsort(places, axis=1, kind="stable")[:, : above.trials if above else 1]
        candidates, below = np.take_along_axis(candidates, best, axis=1), scores
    return candidates[:, 0]


def _ranks(scores: Scores) -> Scores:
    """Of each row, from 0 for the best; of equal ones whoever came first."""
    return np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1).astype(np.float64)


def regret(ladder: Ladder, table: Table, orders: NDArray[np.intp]) -> float:
    """Mean points of a hundred between the best of all configurations and the one that a ladder chooses."""
    return 100 * float((table.truth.max() - table.truth[chosen(ladder, table, orders)]).mean())


def draw(count: int, draws: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Random orders (draws, count) in which configurations come."""
    return generator.permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
