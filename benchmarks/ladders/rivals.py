"""Ways to search, as the ladder that each makes of a total cost: ladders of several rungs, and the usual tricks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from benchmarks.ladders.cases import FULL, Table
from benchmarks.ladders.runs import Ladder, Rung, Shape, equal_shares

QUARTER: Final = "quarter width"
CONFIRMATIONS: Final = 3
"""Of `tune` as it is."""


def random(table: Table, budget: float) -> Ladder:
    """As many full trainings as there is room for."""
    return (Rung(FULL, min(int(budget), len(table.truth))),)


def _shape(*ways: str, last: int = 1) -> Shape:
    return partial(equal_shares, ways=ways, last=last)


SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "first epoch, quarter width": ("first epoch", QUARTER),
    "fewer epochs, quarter width": ("fewer epochs", QUARTER),
    "1, 3, 9 of 27 epochs": ("1 of 27 epochs", "3 of 27 epochs", "9 of 27 epochs"),
    "1, 9 of 27 epochs": ("1 of 27 epochs", "9 of 27 epochs"),
    "3, 9 of 27 epochs": ("3 of 27 epochs", "9 of 27 epochs"),
    "quarter width alone": (QUARTER,),
    "quarter width alone, rates as they are": ("quarter width, rates as they are",),
    "fewer epochs alone": ("fewer epochs",),
    "1 of 27 epochs alone": ("1 of 27 epochs",),
    "3 of 27 epochs alone": ("3 of 27 epochs",),
    "9 of 27 epochs alone": ("9 of 27 epochs",),
    "first epoch alone": ("first epoch",),
    "stopped early alone": ("stopped early",),
    "less data alone": ("less data",),
}
"""By name: the ways of the rungs below one full training, those of ladders first."""


def shapes(table: Table) -> dict[str, Shape]:
    """The searches that can be replayed on a table, the one that others are compared with first."""
    found = {name: _shape(*ways) for name, ways in SHAPES.items() if set(ways) <= table.scores.keys()}
    if QUARTER in table.scores:
        found["today: quarter width, 3 confirmed"] = _shape(QUARTER, last=CONFIRMATIONS)
    else:
        found["9 of 27 epochs, 3 confirmed"] = _shape("9 of 27 epochs", last=CONFIRMATIONS)
    return {**found, "random": random}
