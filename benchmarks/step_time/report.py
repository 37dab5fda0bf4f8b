"""What was predicted and measured, and the errors of each method."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from benchmarks.common.tables import table
from benchmarks.step_time.rivals import FLOPS, PLAIN
from benchmarks.step_time.runs import OURS, Row


def errors(rows: Sequence[Row], method: str) -> tuple[list[float], list[float]]:
    """Relative errors of the seconds, and of the speed-ups over the full network, which is not among these."""
    full = {row["model"]: row for row in rows if row["cut"] == "1"}
    seconds = [abs(row["predicted"][method] / row["measured"] - 1) for row in rows]
    speedups = []
    for row in rows:
        if row["cut"] != "1":
            base = full[row["model"]]
            predicted = base["predicted"][method] / row["predicted"][method]
            speedups.append(abs(predicted / (base["measured"] / row["measured"]) - 1))
    return seconds, speedups


def report(rows: Sequence[Row], *, markdown: bool) -> str:
    """What was predicted and measured, and the errors of each method."""
    full = {row["model"]: row for row in rows if row["cut"] == "1"}
    body = []
    for row in rows:
        base, predicted = full[row["model"]], row["predicted"][OURS]
        faster, expected = base["measured"] / row["measured"], base["predicted"][OURS] / predicted
        off = 100 * (predicted / row["measured"] - 1)
        body.append([row["model"], row["cut"], 1000 * row["measured"], 1000 * predicted, off, faster, expected,
                     100 * (expected / faster - 1)])  # fmt: skip
    header = ["network", "cut", "ms", "predicted", "off, %", "speed-up", "predicted", "off, %"]
    parts = [table(header, body, markdown=markdown)]
    summary: list[Sequence[object]] = []
    for method in (OURS, PLAIN, FLOPS):
        seconds, speedups = errors(rows, method)
        summary.append([method, *(100 * v for e in (seconds, speedups) for v in _spread(e))])
    apart = [abs(row["again"] / row["measured"] - 1) for row in full.values()]
    summary.append(["(the same network measured twice)", *(100 * v for v in _spread(apart)), None, None])
    header = ["method", "seconds: median error, %", "90th percentile", "speed-up: median error, %", "90th percentile"]
    return "\n\n".join([*parts, table(header, summary, markdown=markdown)])


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return (median(values), float(np.quantile(values, 0.9))) if values else (0.0, 0.0)
