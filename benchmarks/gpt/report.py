"""How the ways rank, what they cost, and what the ladder finds against random search at its cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.tables import table
from benchmarks.gpt.cases import TRUTH, WAYS
from benchmarks.gpt.runs import Row
from prunetune.stats.bootstrap import over_seeds, rank_correlation, ranking

OWN = "the full network, another seed"


def summary(rows: Sequence[Row], count: int) -> dict[str, Any]:
    """Of all ways of which there are all configurations: cost, rank correlation with the truth, what it loses."""
    of = {way.name: [row for row in rows if row["way"] == way.name] for way in WAYS}
    truth = -_column(of[TRUTH.name], "test")
    seconds = statistics.fmean(row["cpu"] for row in of[TRUTH.name])
    found: dict[str, Any] = {"ways": {}, "seconds": seconds, "best": -float(truth.max())}
    for way in WAYS:
        own = of[way.name]
        if way == TRUTH or len(own) < count:
            continue
        scores = -_column(own, "val")
        spearman = rank_correlation(scores[None], truth)
        found["ways"][way.name] = {
            "cost": statistics.fmean(row["cpu"] for row in own) / seconds,
            "spearman": spearman.mean, "low": spearman.low, "high": spearman.high,
            "regret": float(truth.max() - truth[ranking(scores)[0]]),
        }  # fmt: skip
    if ladders := [row for row in rows if row["way"] == "ladder"]:
        found["ladder"] = _against_random(ladders, of[OWN], seconds)
    return found


def _against_random(ladders: Sequence[Row], full: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Test nats of the ladders' winners, and of the best of as many random configurations as they cost, rounded up.

    Random searches are all subsets of the configurations that were trained in full: each takes the best by validation,
    and counts on the test text.
    """
    cost = over_seeds([row["cpu"] / seconds for row in ladders])
    nats = over_seeds([row["test"] for row in ladders])
    trials = min(math.ceil(cost.mean or 0.0), len(full))
    val, test = _column(full, "val"), _column(full, "test")
    chosen = [test[min(subset, key=lambda each: val[each])] for subset in combinations(range(len(val)), trials)]
    return {
        "cost": cost.mean, "cost_low": cost.low, "cost_high": cost.high,
        "nats": nats.mean, "nats_low": nats.low, "nats_high": nats.high, "seeds": len(ladders),
        "random_trials": trials, "random_nats": float(np.mean(chosen)),
        "random_all": [float(each) for each in np.percentile(chosen, (10, 50, 90))],
    }  # fmt: skip


def _column(rows: Sequence[Row], what: str) -> NDArray[np.float64]:
    """By configuration; what diverged is worse than everything else."""
    values = {row["configuration"]: math.inf if row[what] is None else row[what] for row in rows}
    column = np.array([values[each] for each in sorted(values)])
    worst = column[np.isfinite(column)].max()
    return np.where(np.isfinite(column), column, 2 * worst)


def _interval(of: dict[str, Any]) -> str:
    return "" if of["low"] is None else f"{of['low']:.2f} to {of['high']:.2f}"


def report(found: dict[str, Any], *, markdown: bool) -> str:
    """Both tables."""
    first = [
        [name, each["cost"], each["spearman"], _interval(each), each["regret"]] for name, each in found["ways"].items()
    ]
    parts = [table(("judged by", "cost", "Spearman", "95 %", "regret, nats"), first, markdown=markdown)]
    if "ladder" in found:
        each = found["ladder"]
        ten, half, ninety = each["random_all"]
        ours = f"{each['nats']:.3f}"
        if each["nats_low"] is not None:
            ours += f" [{each['nats_low']:.3f}, {each['nats_high']:.3f}]"
        theirs = f"{each['random_nats']:.3f} (a tenth {ten:.3f}, half {half:.3f}, nine tenths {ninety:.3f} or better)"
        second = [["ladder", f"{each['cost']:.2f}", ours], ["random", f"{each['random_trials']}", theirs]]
        parts.append(table(("search", "full trainings", "test nats"), second, markdown=markdown))
    return "\n\n".join(parts)
