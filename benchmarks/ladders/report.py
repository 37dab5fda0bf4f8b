"""Regrets at given total costs and costs of given regrets, of every search on every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.tables import table as text_table
from benchmarks.ladders.cases import Table
from benchmarks.ladders.rivals import shapes
from benchmarks.ladders.runs import Ladder, Shape, cost, draw, regret

COSTS: Final = (2.0, 3.0, 5.0, 10.0)
REGRETS: Final = (1.0, 0.5)
"""Points of a hundred."""
GRID: Final = tuple(1.0 + step / 4 for step in range(1, 77))
"""Total costs at which is looked whether a regret is reached."""


def replayed(table: Table, draws: int, resamples: int, seed: int) -> dict[str, Any]:
    """Every search on a table.

    Intervals are 95 % percentiles of a bootstrap over configurations, the same resamples for every search; each
    resample is played with a tenth of the draws. ``minus_first`` is a search's regret minus that of the first one.
    """
    searches = shapes(table)
    generator = np.random.default_rng(seed)
    count = len(table.truth)
    orders = draw(count, draws, generator)
    places = generator.integers(count, size=(resamples, count))
    fewer = [draw(count, max(1, draws // 10), generator) for _ in range(resamples)]
    resampled = [table.resampled(each) for each in places]
    found: dict[str, Any] = {name: {"at": {}} for name in searches}
    for budget in COSTS:
        first: NDArray[Any] | None = None
        for name, shape in searches.items():
            ladder = shape(table, budget)
            if ladder is None:
                continue
            spread = np.array([regret(ladder, each, of) for each, of in zip(resampled, fewer, strict=True)])
            entry = {**_plain(ladder, table), "regret": regret(ladder, table, orders), "interval": _ends(spread)}
            if first is None:
                first = spread
            else:
                entry["minus_first_interval"] = _ends(spread - first)
            found[name]["at"][f"{budget:g}"] = entry
    for name, shape in searches.items():
        found[name]["cost_of_regret"] = {f"{points:g}": None for points in REGRETS}
        found[name]["cost_of_regret"] |= cost_of_regret(shape, table, orders)
    return {
        "configurations": count,
        "cost_of_a_training": dict(table.cost),
        "random_pick_regret": 100 * float(table.truth.max() - table.truth.mean()),
        "searches": found,
    }


def given(ladder: Ladder, table: Table, draws: int, seed: int) -> dict[str, Any]:
    """One ladder on a table, at its own cost."""
    orders = draw(len(table.truth), draws, np.random.default_rng(seed))
    return {**_plain(ladder, table), "regret": regret(ladder, table, orders)}


def _plain(ladder: Ladder, table: Table) -> dict[str, Any]:
    return {"ladder": [[rung.trials, rung.way] for rung in ladder], "cost": cost(ladder, table)}


def _ends(values: NDArray[Any]) -> list[float]:
    return [float(each) for each in np.percentile(values, [2.5, 97.5])]


def cost_of_regret(shape: Shape, table: Table, orders: NDArray[Any]) -> dict[str, float]:
    """The least total cost of `GRID` from which on a regret is not exceeded any more."""
    found: dict[str, float] = {}
    left = set(REGRETS)
    for budget in reversed(GRID):
        ladder = shape(table, budget)
        points = np.inf if ladder is None else regret(ladder, table, orders)
        left = {wanted for wanted in left if points <= wanted}
        found |= {f"{wanted:g}": budget for wanted in left}
    return found


def report(found: Mapping[str, Any], *, markdown: bool) -> str:
    """The tables."""
    parts = []
    for name, entry in found.items():
        body = [_line(search, each) for search, each in entry["searches"].items()]
        header = ["search", *(f"regret at {budget:g}" for budget in COSTS)]
        header += [f"cost of {points:g} points" for points in REGRETS]
        title = f"{name}: {entry['configurations']} configurations, a random pick {entry['random_pick_regret']:.1f}"
        parts.append(f"{'## ' if markdown else ''}{title}\n\n{text_table(header, body, markdown=markdown)}")
    return "\n\n".join(parts)


def _line(search: str, each: Mapping[str, Any]) -> Sequence[object]:
    cells: list[object] = [search]
    for budget in COSTS:
        at = each["at"].get(f"{budget:g}")
        cells.append("-" if at is None else f"{at['regret']:.2f} [{at['interval'][0]:.1f}, {at['interval'][1]:.1f}]")
    return [*cells, *(each["cost_of_regret"][f"{points:g}"] for points in REGRETS)]
