"""The page of a comparison, in the frame of all reports."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prunetune.report.figures import comparison as figures
from prunetune.report.page import Album, framed, write_whole
from prunetune.report.tables import Table
from prunetune.report.words import NONE, clip, duration, number

HEAD: Final = (
    "way", "cost of a training", "cost of the search", "time", "Spearman, 95 %", "regret, 95 %",
    "cost, confirmed", "regret, confirmed, 95 %", "lost",
)  # fmt: skip


def write_comparison(record: Mapping[str, Any], name: str, path: Path) -> Path:
    """Path of the page that shows the record in a ``compare.json``; ``name`` is its heading."""
    return write_whole(render(record, name), path)


def render(record: Mapping[str, Any], name: str) -> str:
    """The page as text."""
    rows, asked = record["rows"], record["comparison"]
    album = Album()
    pictures = {
        "pareto": album.picture(
            "pareto",
            functools.partial(figures.pareto, rows, record["random_pick_regret"]),
            label="Scatter plot: regret against the cost of the search, as in the table below.",
        ),
        "ranks": album.picture(
            "ranks",
            functools.partial(figures.ranks, rows),
            label="Dot plot: the rank correlation of every way with the full network, as in the table above.",
        ),
    }
    context = {
        "name": name,
        "lead": figures.headline(rows),
        "notes": record["notes"],
        "confirm": asked["confirm"],
        "truth_seeds": asked["truth_seeds"],
        "common": sum(each["considered_by_all"] for each in record["configurations"]),
        "pictures": pictures,
        "rows": results(rows, record["random_pick_regret"]),
        "configurations": configurations(record["configurations"]),
        "settings": settings(record),
    }
    return framed("comparison.html.j2", context, album)


def results(rows: Sequence[Mapping[str, Any]], random_pick: float) -> Table:
    """Every row of a comparison, and the regret of a random pick."""
    found = [
        (
            clip(figures.title(row), 80),
            number(round(row["cost"], 3)),
            f"{row['search_cost']:.2f}",
            duration(row["seconds"]),
            estimate(row["spearman"], 2),
            estimate(row["regret"], 4),
            NONE if row["confirmed_cost"] is None else f"{row['confirmed_cost']:.2f}",
            NONE if row["regret_confirmed"] is None else estimate(row["regret_confirmed"], 4),
            str(row["lost"]),
        )
        for row in rows
    ]
    blind = ("a random pick", "0", "0", NONE, NONE, f"{random_pick:.4f}", NONE, NONE, NONE)
    note = "Lost are trainings that failed or diverged. The full network's rank correlation is the ceiling."
    return Table("Every way, at its cost", HEAD, (*found, blind), note=note)


def estimate(found: Mapping[str, Any], digits: int) -> str:
    """A mean with its interval, where it has them.

    >>> estimate({"mean": 0.81234, "low": 0.7, "high": 0.9}, 2), estimate({"mean": None, "low": None, "high": None}, 2)
    ('0.81 (0.70 to 0.90)', '-')
    """
    if found["mean"] is None:
        return NONE
    mean = f"{found['mean']:.{digits}f}"
    return mean if found["low"] is None else f"{mean} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def configurations(found: Sequence[Mapping[str, Any]]) -> Table:
    """Every configuration that was considered, and what the full network makes of it."""
    names = list(found[0]["params"])
    rows = tuple(
        (
            str(place),
            "all ways" if each["considered_by_all"] else "a search",
            f"{each['truth']:.4f}",
            *(number(each["params"][name]) for name in names),
        )
        for place, each in enumerate(found, 1)
    )
    head = ("configuration", "considered by", "truth", *(clip(name, 60) for name in names))
    return Table("What the full network makes of each configuration", head, rows, words=2)


def settings(record: Mapping[str, Any]) -> Table:
    """What was asked for, the machine and the versions."""
    shown = {name: record[name] for name in ("epochs", "seed", "direction", "space")}
    shown |= {**record["comparison"], "equal cost": record["equal_cost"], **record["machine"], **record["versions"]}
    rows = tuple((name.replace("_", " "), clip(_plain(value), 400)) for name, value in shown.items())
    return Table("Settings", ("setting", "value"), rows, words=2)


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, str | int | float) or value is None else json.dumps(value)
