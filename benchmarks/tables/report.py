"""Tables of what was found, with intervals over the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common.bootstrap import interval
from benchmarks.common.tables import table
from benchmarks.tables.runs import Row


def result(ranks: Sequence[Row], searches: Sequence[Row]) -> dict[str, Any]:
    """Both parts, by data set and in the mean."""
    return {
        "ranks": {"rows": [*ranks], "means": _means(ranks, ("width", "rule"), "spearman")},
        "searches": {"rows": [*searches], "means": _means(searches, ("way",), "regret", "cost")},
    }


def _means(rows: Sequence[Row], by: tuple[str, ...], *values: str) -> list[Row]:
    found = []
    for key in dict.fromkeys(tuple(row[name] for name in by) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in by) == key]
        entry: Row = dict(zip(by, key, strict=True))
        for value in values:
            numbers = [row[value] for row in own]
            low, high = interval(lambda each: each.mean(-1), np.array(numbers)) or (None, None)
            entry |= {value: sum(numbers) / len(numbers), f"{value}_low": low, f"{value}_high": high}
        found.append(entry)
    return found


def report(found: dict[str, Any], *, markdown: bool) -> str:
    """How narrow networks rank, by rule; and what searches find, and at what cost."""
    first = [[row["width"], row["rule"], _told(row, "spearman")] for row in found["ranks"]["means"]]
    second = [[row["way"], f"{row['cost']:.1f}", _told(row, "regret")] for row in found["searches"]["means"]]
    parts = ((("width", "rule", "Spearman"), first), (("search", "full trainings", "regret, points"), second))
    return "\n\n".join(table(head, body, markdown=markdown) for head, body in parts)


def _told(row: Row, what: str) -> str:
    low, high = row[f"{what}_low"], row[f"{what}_high"]
    return f"{row[what]:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")
