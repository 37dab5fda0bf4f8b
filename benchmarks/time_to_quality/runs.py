"""Searches and final trainings of every arm and seed, as they end."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import cache
from typing import Final, TypeAlias

import optuna
import torch

from benchmarks.common.command import provenance
from benchmarks.common.pool import processes
from benchmarks.common.reports import PlainReport
from benchmarks.time_to_quality.cases import PRESETS, Preset
from benchmarks.time_to_quality.rivals import ARMS, FINAL, OURS, Clock, Row, Task, ours, train

Key: TypeAlias = tuple[int, str]
"""Seed and arm."""
KEY: Final = ("seed", "arm")


def measured(waiting: Sequence[Key], known: Sequence[Row], options: argparse.Namespace) -> Iterator[Row]:
    """The rows as they end: one after the other in this process, or in so many others."""
    ours = {row["seed"]: _cost(row) for row in known if row["arm"] == OURS}
    if options.jobs == 1:
        _prepare()
        for key in waiting:
            row = _row(key, options.scale, _budget(key, ours), options.device)
            ours |= {row["seed"]: _cost(row)} if row["arm"] == OURS else {}
            yield row
        return
    left, running = list(waiting), set[Future[Row]]()
    with processes(options.jobs, _prepare) as pool:
        try:
            while left or running:
                for key in [key for key in left if not ARMS[key[1]].at_our_cost or key[0] in ours]:
                    left.remove(key)
                    running.add(pool.submit(_row, key, options.scale, _budget(key, ours), options.device))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    row = each.result()
                    ours |= {row["seed"]: _cost(row)} if row["arm"] == OURS else {}
                    yield row
        finally:
            pool.shutdown(cancel_futures=True)


def _budget(key: Key, ours: Mapping[int, float]) -> float:
    return ours[key[0]] if ARMS[key[1]].at_our_cost else math.inf


def _cost(row: Row) -> float:
    """Seconds that a search may take at our cost; the final training, which every arm has, comes on top."""
    return float(row[f"search_{row['preset']['clock']}_seconds"])


def _row(key: Key, scale: str, budget: float, device: str) -> Row:
    preset = PRESETS[scale]
    found = run_arm(preset, *key, budget, device)
    where = provenance(device, threads=torch.get_num_threads())
    named = {"scale": scale, **dict(zip(KEY, key, strict=True))}
    return {**named, **found, **where, "preset": preset.record()}


def _prepare() -> None:
    """Make this process ready to measure."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warm_up()


@cache
def warm_up() -> None:
    """Load whatever a search loads on first use, ours and Optuna's, so that no arm pays for it."""
    small = replace(PRESETS["smoke"], trials=1, epochs=1)
    ours(Task(small, small.load(0, "cpu"), 0, Clock("cpu")))


def run_arm(preset: Preset, seed: int, arm: str, budget: float = math.inf, device: str = "cpu") -> Row:
    """Search, then train the base with what was found: what both cost, and the accuracy on the test images.

    The data is ready before the clocks start, and after `warm_up` all imports are. One final training is counted:
    the mean of those that there are.
    """
    data = preset.load(seed, device)
    task = Task(preset, data, seed, Clock(preset.clock), budget)
    found = ARMS[arm].search(task)
    search = task.clock.seconds()
    accuracies, finals = [], []
    for number in range(preset.finals):
        clock = Clock(preset.clock)
        train_seed = task.train_seed(FINAL + number)
        torch.manual_seed(train_seed)
        model = task.base()
        train(task, model, found.params, PlainReport(train_seed, preset.epochs), data)
        finals.append(clock.seconds())
        accuracies.append(preset.job(data).evaluate(model)["accuracy"])
    final = {name: sum(each[name] for each in finals) / len(finals) for name in search}
    return {
        **{f"search_{name}_seconds": search[name] for name in search},
        **{f"final_{name}_seconds": final[name] for name in final},
        "test_accuracy": sum(accuracies) / len(accuracies),
        "test_accuracies": accuracies,
        "params": found.params,
        "trials": found.trials,
        "base_epochs": found.base_epochs,
        "proxy_epochs": found.proxy_epochs,
        "budget_seconds": budget if math.isfinite(budget) else None,
    }
