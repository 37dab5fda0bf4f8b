"""The result and the tables of `benchmarks.time_to_quality`, from its rows; nothing here measures anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.bootstrap import interval
from benchmarks.common.tables import table
from benchmarks.time_to_quality.rivals import ARMS, OURS, Row

Rows: TypeAlias = Sequence[Row]
Floats: TypeAlias = NDArray[np.float64]

DEFAULT: Final = "default"
SPEEDUP_WANTED: Final = 3.0
POINTS_ALLOWED: Final = -0.3


def result(rows: Rows) -> dict[str, Any]:
    """What the rows, all of one preset, say: ours against the default, and against each rival, seed by seed."""
    first = rows[0]
    clock = first["preset"]["clock"]
    against_default = comparison(rows, DEFAULT, clock)
    others = [arm for arm in ARMS if arm not in (OURS, DEFAULT) and comparison(rows, arm, clock)]
    return {
        "benchmark": "time_to_quality",
        "scale": first["scale"],
        "preset": first["preset"],
        "clock": clock,
        "seeds": sorted({row["seed"] for row in rows}),
        "machines": _unique([row["machine"] for row in rows]),
        "versions": _unique([row["versions"] for row in rows]),
        **against_default,
        "rivals": {arm: comparison(rows, arm, clock) for arm in others if ARMS[arm].rival},
        "ablations": {arm: comparison(rows, arm, clock) for arm in others if not ARMS[arm].rival},
        "rows": sorted(rows, key=lambda row: (row["seed"], list(ARMS).index(row["arm"]))),
    }


def total(row: Row, clock: str) -> float:
    """Seconds of the search, everything in it, and of one final training."""
    return float(row[f"search_{clock}_seconds"] + row[f"final_{clock}_seconds"])


def comparison(rows: Rows, arm: str, clock: str) -> dict[str, Any]:
    """Ours beside `arm` over the seeds that both have; empty if there is none.

    `speedup_total` is the sum of that arm's seconds over the sum of ours, `accuracy_difference_points` the mean of
    ours minus its, in points of a hundred; intervals are null for fewer than five seeds.
    """
    mine, theirs = ({row["seed"]: row for row in rows if row["arm"] == name} for name in (OURS, arm))
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return {}
    seconds = np.array([[total(each[seed], clock) for seed in seeds] for each in (theirs, mine)])
    points = np.array([[100 * each[seed]["test_accuracy"] for seed in seeds] for each in (mine, theirs)])
    return {
        "speedup_total": float(ratio(seconds)),
        "speedup_total_interval": interval(ratio, seconds),
        "accuracy_difference_points": float(difference(points)),
        "accuracy_difference_points_interval": interval(difference, points),
        "paired_seeds": len(seeds),
    }


def ratio(pairs: Floats) -> Floats:
    """The sum of the first row over that of the second."""
    return pairs[0].sum(axis=-1) / pairs[1].sum(axis=-1)


def difference(pairs: Floats) -> Floats:
    """The mean of the first row minus the second."""
    return (pairs[0] - pairs[1]).mean(axis=-1)


def report(found: Mapping[str, Any], *, markdown: bool) -> str:
    """The table of all arms, and a line for each thing that was to be shown."""
    rows, clock = found["rows"], found["clock"]
    versus = {DEFAULT: found, **found["rivals"], **found["ablations"]}
    body = [_line([row for row in rows if row["arm"] == arm], versus.get(arm), clock) for arm in _arms(rows)]
    header = ["arm", f"total {clock} s", "search", "one training", "trials", "base epochs", "test accuracy"]
    header += ["its time / ours", "ours better by (points)"]
    lines = [table(header, body, markdown=markdown), "", *_verdicts(found), "", *_legend(rows)]
    return "\n".join(lines)


def _arms(rows: Rows) -> list[str]:
    return [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]


def _line(rows: Rows, versus: Mapping[str, Any] | None, clock: str) -> list[object]:
    """An arm's means over its seeds, and ours beside it."""

    def mean(value: Callable[[Row], float]) -> float:
        return float(np.mean([value(row) for row in rows]))

    beside: list[object] = ["", ""]
    if versus and "speedup_total" in versus:
        beside = [_figure(versus, "speedup_total", ".2f"), _figure(versus, "accuracy_difference_points", "+.2f")]
    return [
        rows[0]["arm"],
        mean(lambda row: total(row, clock)),
        mean(lambda row: row[f"search_{clock}_seconds"]),
        mean(lambda row: row[f"final_{clock}_seconds"]),
        mean(lambda row: row["trials"]),
        mean(lambda row: row["base_epochs"]),
        f"{100 * mean(lambda row: row['test_accuracy']):.2f} %",
        *beside,
    ]


def _figure(versus: Mapping[str, Any], name: str, form: str) -> str:
    ends = versus[f"{name}_interval"]
    around = f" [{ends[0]:{form}}, {ends[1]:{form}}]" if ends else f" (seeds: {versus['paired_seeds']})"
    return f"{versus[name]:{form}}{around}"


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if "speedup_total" in found:
        faster, points = found["speedup_total"], found["accuracy_difference_points"]
        times = f"{faster:.2f} times as fast as the default in total ({SPEEDUP_WANTED:g} wanted)"
        lines.append(f"{_met(faster >= SPEEDUP_WANTED)}: {times}")
        better = f"{points:+.2f} points against the default ({POINTS_ALLOWED:g} allowed)"
        lines.append(f"{_met(points >= POINTS_ALLOWED)}: {better}")
    for arm, versus in found["rivals"].items():
        points = versus["accuracy_difference_points"]
        lines.append(f"{_met(points >= 0)}: {points:+.2f} points against {arm!r}")
    return lines


def _met(condition: bool) -> str:
    return "met" if condition else "NOT MET"


def _legend(rows: Rows) -> list[str]:
    return [f"- {arm}: {ARMS[arm].says}" for arm in _arms(rows)]


def _unique(values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [value for place, value in enumerate(values) if value not in values[:place]]
