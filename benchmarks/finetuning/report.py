"""How each way ranks, and what a choice by it loses at equal cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.tables import table
from benchmarks.finetuning.cases import TASKS, TRUTH, WAYS
from benchmarks.finetuning.runs import Row
from prunetune.stats.bootstrap import rank_correlations

SPENT: Final = 1.0
"""Full trainings for which every way may judge as many configurations as it can."""
DRAWS: Final = 2000


def summary(rows: Sequence[Row], count: int) -> dict[str, Any]:
    """By task and way, over all seeds of which all configurations are there: cost, Spearman's, what a choice loses."""
    return {"tasks": {task.name: _task([row for row in rows if row["task"] == task.name], count) for task in TASKS}}


def _task(rows: Sequence[Row], count: int) -> dict[str, Any]:
    by: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        by.setdefault((row["way"], row["seed"]), []).append(row)
    by = {key: sorted(of, key=lambda row: row["configuration"]) for key, of in by.items() if len(of) == count}
    found: dict[str, Any] = {}
    for way in WAYS:
        seeds = [seed for name, seed in by if name == way.name and (TRUTH.name, seed) in by]
        if way == TRUTH or not seeds:
            continue
        costs, ranks, losses = [], [], []
        for seed in seeds:
            own, truth = by[way.name, seed], by[TRUTH.name, seed]
            full = statistics.fmean(row["cpu"] for row in truth)
            costs.append(statistics.fmean(row["cpu"] for row in own) / full)
            ranks.append(float(rank_correlations(_scores(own)[None], _scores(truth))[0]))
            losses.append(_lost(_scores(own), _scores(truth), costs[-1]))
        found[way.name] = {
            "cost": statistics.fmean(costs), "seeds": len(seeds),
            "spearman": statistics.fmean(ranks), "spearman_by_seed": ranks,
            "lost": statistics.fmean(losses), "lost_by_seed": losses,
            "before": statistics.fmean(row["before"] for seed in seeds for row in by[way.name, seed]),
        }  # fmt: skip
    return found


def _scores(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Higher is better; what diverged is as bad as the worst that did not, and a bit."""
    losses = np.array([np.nan if row["loss"] is None else row["loss"] for row in rows])
    return -np.where(np.isnan(losses), np.nanmax(losses) + 1, losses)


def _lost(scores: NDArray[np.float64], truth: NDArray[np.float64], cost: float) -> float:
    """Nats that the choice loses against the best, in the mean over random sets of what the cost allows to judge."""
    judged = int(np.clip(round(SPENT / cost), 1, len(scores)))
    generator = np.random.default_rng(0)
    sets = generator.permuted(np.tile(np.arange(len(scores)), (DRAWS, 1)), axis=1)[:, :judged]
    chosen = sets[np.arange(DRAWS), scores[sets].argmax(1)]
    return float((truth.max() - truth[chosen]).mean())


def report(found: dict[str, Any], *, markdown: bool) -> str:
    """A table a task."""
    parts = []
    for name, ways in found["tasks"].items():
        rows = [
            [
                way,
                each["cost"],
                each["spearman"],
                _seeds(each["spearman_by_seed"]),
                each["lost"],
                _seeds(each["lost_by_seed"]),
            ]
            for way, each in ways.items()
        ]
        head = ("judged by", "cost", "Spearman", "by seed", "nats lost", "by seed")
        parts.append(f"{name}\n\n{table(head, rows, markdown=markdown)}")
    return "\n\n".join(parts)


def _seeds(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else ""
