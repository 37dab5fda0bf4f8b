"""What the trainings say: rank correlations and regrets of every way; nothing here trains."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.command import provenance
from benchmarks.common.tables import table
from benchmarks.transfer.cases import SCALES, Scale, arms
from benchmarks.transfer.runs import TRUTH_SEEDS, Row
from prunetune.stats.bootstrap import confirmed, rank_correlation, rank_correlations, ranking

TOP: Final = 3


def summaries(rows: Sequence[Row], scale: Scale) -> dict[str, Any]:
    """By base: the ceiling, and every arm's cost, rank correlation and regret. Only of arms that are complete."""
    found = {}
    for base in scale.bases:
        own = [row for row in rows if row["base"] == base.model]
        of = {arm.name: _column(own, arm.name, 0, "val", scale) for arm in arms(base, scale)}
        truth_by_seed = [_column(own, "base", seed, "test", scale) for seed in TRUTH_SEEDS]
        chooser = of["base"]
        if chooser is None or any(column is None for column in truth_by_seed):
            continue
        truth = np.mean([column for column in truth_by_seed if column is not None], axis=0)
        seconds = {name: _seconds(own, name) for name in of}
        entries = {}
        for arm in arms(base, scale):
            scores = of[arm.name]
            if scores is None or arm.name == "base":
                continue
            entries[arm.name] = {
                "kind": arm.kind,
                "cost": seconds[arm.name] / seconds["base"],
                **compared(scores, truth, chooser),
            }
        found[base.model] = {
            "ceiling": compared(chooser, truth, chooser),
            "random_pick_regret_points": 100 * float(np.max(truth) - np.mean(truth)),
            "proxies": entries,
            "base_seconds": seconds["base"],
        }
    return found


def compared(scores: NDArray[np.float64], truth: NDArray[np.float64], chooser: NDArray[np.float64]) -> dict[str, Any]:
    """Rank correlation with the truth, with its 95 % bootstrap interval over configurations, and points of regret.

    Plain: the truth's best minus that of the first choice. Confirmed: the best of the first three by ``chooser``, the
    full network with a seed that has no part in the truth.
    """
    found = rank_correlation(scores[None], truth)
    half = truth >= np.median(truth)
    return {
        "spearman": found.mean,
        "spearman_interval": [found.low, found.high],
        "spearman_best_half": _none_for_nan(rank_correlations(scores[half], truth[half])),
        "regret_points": 100 * float(truth.max() - truth[ranking(scores)[0]]),
        "regret_points_confirmed": 100 * float(truth.max() - truth[confirmed(scores, chooser, TOP)]),
    }


def _none_for_nan(value: NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)


def _column(rows: Iterable[Row], arm: str, seed: int, what: str, scale: Scale) -> NDArray[np.float64] | None:
    values = {int(r["configuration"]): float(r[what]) for r in rows if r["arm"] == arm and int(r["seed"]) == seed}
    if len(values) < scale.configurations:
        return None
    return np.array([values[i] for i in range(scale.configurations)])


def _seconds(rows: Iterable[Row], arm: str) -> float:
    """Mean processor seconds of a configuration."""
    return statistics.fmean([float(r["cpu_seconds"]) for r in rows if r["arm"] == arm] or [math.nan])


HEADER: Final = (
    "base", "judged by", "cost", "spearman", "95 %", "best half", "regret, points", "after confirming three",
)  # fmt: skip


def report(found: Mapping[str, Any], *, markdown: bool) -> str:
    """The tables."""
    body = []
    for base, each in found.items():
        lines = [("the full network, another seed", {"cost": 1.0, **each["ceiling"]}), *each["proxies"].items()]
        for name, entry in lines:
            body.append([
                base, name, entry["cost"], entry["spearman"], _interval(entry["spearman_interval"]),
                entry["spearman_best_half"], entry["regret_points"], entry["regret_points_confirmed"],
            ])  # fmt: skip
        body.append([base, "a random pick", 0.0, None, "", None, each["random_pick_regret_points"], None])
    return table(HEADER, body, markdown=markdown)


def _interval(limits: Sequence[float | None]) -> str:
    low, high = limits
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def document(found: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The summary with where it comes from; ``proxies`` are those of all bases, by base and name."""
    return {
        "benchmark": "transfer",
        "settings": {"scale": options.scale, "configurations": SCALES[options.scale].configurations},
        "seeds": [0, *TRUTH_SEEDS],
        **provenance(load=True),
        "ceiling": {base: each["ceiling"]["spearman"] for base, each in found.items()},
        "bases": found,
        "proxies": {
            f"{base}: {name}": {k: entry[k] for k in ("cost", "spearman", "regret_points", "regret_points_confirmed")}
            for base, each in found.items()
            for name, entry in each["proxies"].items()
        },
    }
