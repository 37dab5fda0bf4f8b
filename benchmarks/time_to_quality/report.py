"""The result and the tables of `benchmarks.time_to_quality`, from its rows; nothing here measures anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.bootstrap import interval
from benchmarks.common.tables import table
from benchmarks.time_to_quality.rivals import ARMS, LADDER, PAPER, Row

Rows: TypeAlias = Sequence[Row]
Floats: TypeAlias = NDArray[np.float64]

DEFAULT: Final = "default"
TRAININGS_ALLOWED: Final = 3.6
SPEEDUP_WANTED: Final = 3.0
POINTS_ALLOWED: Final = -0.3
POINTS_WANTED: Final = {LADDER: 0.5, PAPER: 0.0}
"""Ours better than a rival at the same cost, by at least."""


def result(rows: Rows) -> dict[str, Any]:
    """What the rows, all of one preset, say: the ladder against the default and against each rival, seed by seed.

    The same of the ladder "paper" is under `two_rungs`.
    """
    first = rows[0]
    clock = first["preset"]["clock"]
    return {
        "benchmark": "time_to_quality",
        "scale": first["scale"],
        "preset": first["preset"],
        "clock": clock,
        "seeds": sorted({row["seed"] for row in rows}),
        "machines": _unique([row["machine"] for row in rows]),
        "versions": _unique([row["versions"] for row in rows]),
        "trainings": {arm: trainings(rows, arm, clock) for arm in _arms(rows)},
        **_headline(rows, clock),
        "rivals_at_our_cost": _beside(rows, LADDER, clock, rivals=True),
        "ablations": _beside(rows, LADDER, clock, rivals=False),
        "two_rungs": {
            **comparison(rows, DEFAULT, clock, mine=PAPER),
            "rivals": _beside(rows, PAPER, clock, rivals=True),
            "ablations": _beside(rows, PAPER, clock, rivals=False),
        },
        "rows": sorted(rows, key=lambda row: (row["seed"], list(ARMS).index(row["arm"]))),
    }


def _headline(rows: Rows, clock: str) -> dict[str, Any]:
    """What the ladder costs in full trainings, and what it is beside the default; empty if it was not run."""
    if not any(row["arm"] == LADDER for row in rows):
        return {}
    cost = trainings(rows, LADDER, clock)
    total = {
        "total_trainings": cost["mean"],
        "total_trainings_interval": cost["interval"],
        "ladder_seeds": cost["seeds"],
    }
    return {**total, **comparison(rows, DEFAULT, clock, mine=LADDER)}


def _beside(rows: Rows, mine: str, clock: str, *, rivals: bool) -> dict[str, Any]:
    """The comparisons with all arms beside that of ours; `rivals` or else the other ones."""
    names = [arm for arm in ARMS if arm not in (mine, DEFAULT) and ARMS[arm].beside == mine]
    found = {arm: comparison(rows, arm, clock, mine=mine) for arm in names if ARMS[arm].rival == rivals}
    return {arm: each for arm, each in found.items() if each}


def total(row: Row, clock: str) -> float:
    """Seconds of the search, everything in it, and of the winner's training where it comes on top."""
    return ARMS[row["arm"]].total(row, clock)


def trainings(rows: Rows, arm: str, clock: str) -> dict[str, Any]:
    """The total of `arm` in full trainings: the mean over its seeds, each by what its own final trainings took."""
    costs = np.array([total(row, clock) / row[f"final_{clock}_seconds"] for row in rows if row["arm"] == arm])
    return {"mean": float(costs.mean()), "interval": interval(mean, costs), "seeds": len(costs)}


def comparison(rows: Rows, arm: str, clock: str, *, mine: str) -> dict[str, Any]:
    """The arm `mine` beside `arm` over the seeds that both have; empty if there is none.

    `speedup_total` is the sum of that arm's seconds over the sum of `mine`'s, `accuracy_difference_points` the mean of
    `mine` minus its, in points of a hundred; intervals are null for fewer than five seeds. Beside the ladder, seconds
    are counted in full trainings: a busy machine makes these longer, too.
    """
    ours, theirs = ({row["seed"]: row for row in rows if row["arm"] == name} for name in (mine, arm))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return {}

    def cost(row: Row) -> float:
        return total(row, clock) / (row[f"final_{clock}_seconds"] if mine == LADDER else 1.0)

    costs = np.array([[cost(each[seed]) for seed in seeds] for each in (theirs, ours)])
    points = np.array([[100 * each[seed]["test_accuracy"] for seed in seeds] for each in (ours, theirs)])
    return {
        "speedup_total": float(ratio(costs)),
        "speedup_total_interval": interval(ratio, costs),
        "accuracy_difference_points": float(difference(points)),
        "accuracy_difference_points_interval": interval(difference, points),
        "paired_seeds": len(seeds),
    }


def mean(values: Floats) -> Floats:
    """Over the last axis."""
    return values.mean(axis=-1)


def ratio(pairs: Floats) -> Floats:
    """The sum of the first row over that of the second."""
    return pairs[0].sum(axis=-1) / pairs[1].sum(axis=-1)


def difference(pairs: Floats) -> Floats:
    """The mean of the first row minus the second."""
    return (pairs[0] - pairs[1]).mean(axis=-1)


def report(found: Mapping[str, Any], *, markdown: bool) -> str:
    """The table of all arms, and a line for each thing that was to be shown."""
    rows = found["rows"]
    two_rungs = found["two_rungs"]
    ours = {**found["rivals_at_our_cost"], **found["ablations"]}
    versus = {**ours, **two_rungs["rivals"], **two_rungs["ablations"]}
    versus[DEFAULT] = found if "speedup_total" in found else two_rungs
    body = [_line([row for row in rows if row["arm"] == arm], versus.get(arm), found) for arm in _arms(rows)]
    header = ["arm", "seeds", "full trainings", f"total {found['clock']} s", "trials", "base epochs", "test accuracy"]
    header += ["its cost / ours", "ours better by (points)"]
    lines = [table(header, body, markdown=markdown), "", *_verdicts(found), "", *_legend(rows)]
    return "\n".join(lines)


def _arms(rows: Rows) -> list[str]:
    return [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]


def _line(rows: Rows, versus: Mapping[str, Any] | None, found: Mapping[str, Any]) -> list[object]:
    """An arm's means over its seeds, and the one of ours that it is beside."""

    def average(value: Callable[[Row], float]) -> float:
        return float(np.mean([value(row) for row in rows]))

    beside: list[object] = ["", ""]
    if versus and "speedup_total" in versus:
        beside = [_figure(versus, "speedup_total", ".2f"), _figure(versus, "accuracy_difference_points", "+.2f")]
    arm = rows[0]["arm"]
    return [
        arm,
        str(len(rows)),
        f"{found['trainings'][arm]['mean']:.2f}",
        average(lambda row: total(row, found["clock"])),
        average(lambda row: row["trials"]),
        average(lambda row: row["base_epochs"]),
        f"{100 * average(lambda row: row['test_accuracy']):.2f} %",
        *beside,
    ]


def _figure(versus: Mapping[str, Any], name: str, form: str) -> str:
    ends = versus[f"{name}_interval"]
    around = f" [{ends[0]:{form}}, {ends[1]:{form}}]" if ends else f" (seeds: {versus['paired_seeds']})"
    return f"{versus[name]:{form}}{around}"


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if "total_trainings" in found:
        cost = found["total_trainings"]
        lines.append(f"{_met(cost <= TRAININGS_ALLOWED)}: {cost:.2f} full trainings ({TRAININGS_ALLOWED:g} allowed)")
    for against, wanted in ((found, None), (found["two_rungs"], SPEEDUP_WANTED)):
        if "speedup_total" in against:
            faster, points = against["speedup_total"], against["accuracy_difference_points"]
            if wanted is not None:
                times = f"{faster:.2f} times as fast as the default in total ({wanted:g} wanted)"
                lines.append(f"{_met(faster >= wanted)}: {times}")
            better = f"{points:+.2f} points against the default ({POINTS_ALLOWED:g} allowed)"
            lines.append(f"{_met(points >= POINTS_ALLOWED)}: {better}")
    for mine, rivals in ((LADDER, found["rivals_at_our_cost"]), (PAPER, found["two_rungs"]["rivals"])):
        for arm, versus in rivals.items():
            points, wanted = versus["accuracy_difference_points"], POINTS_WANTED[mine]
            lines.append(f"{_met(points >= wanted)}: {points:+.2f} points against {arm!r} ({wanted:+g} wanted)")
    return lines


def _met(condition: bool) -> str:
    return "met" if condition else "NOT MET"


def _legend(rows: Rows) -> list[str]:
    return [f"- {arm}: {ARMS[arm].says}" for arm in _arms(rows)]


def _unique(values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [value for place, value in enumerate(values) if value not in values[:place]]
