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
from benchmarks.time_to_quality.rivals import ARMS, FINAL, Clock, Row, Task, ladder, paper, train

Key: TypeAlias = tuple[int, str]
"""Seed and arm."""
KEY: Final = ("seed", "arm")


def measured(waiting: Sequence[Key], known: Sequence[Row], options: argparse.Namespace) -> Iterator[Row]:
    """The rows as they end: one after the other in this process, or in so many others."""
    done = {_key(row): row for row in known}
    if options.jobs == 1:
        _prepare()
        for key in waiting:
            done[key] = _row(key, options.scale, _budget(key, done), options.device)
            yield done[key]
        return
    left, running = list(waiting), set[Future[Row]]()
    with processes(options.jobs, _prepare) as pool:
        try:
            while left or running:
                for key in [key for key in left if not ARMS[key[1]].at_cost or (key[0], ARMS[key[1]].beside) in done]:
                    left.remove(key)
                    running.add(pool.submit(_row, key, options.scale, _budget(key, done), options.device))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for each in ended:
                    row = each.result()
                    done[_key(row)] = row
                    yield row
        finally:
            pool.shutdown(cancel_futures=True)


def _key(row: Row) -> Key:
    return row["seed"], row["arm"]


def _budget(key: Key, done: Mapping[Key, Row]) -> float:
    """Seconds that a search may take to cost in all what the arm beside it does; infinite if that is its own affair.

    A training of the winner that comes on top of both is left out of both.
    """
    seed, arm = key[0], ARMS[key[1]]
    if not arm.at_cost:
        return math.inf
    row = done[seed, arm.beside]
    clock = row["preset"]["clock"]
    final = 0.0 if arm.leaves_winner else row[f"final_{clock}_seconds"]
    return ARMS[arm.beside].total(row, clock) - final


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
    for search in (paper, ladder):
        search(Task(small, small.load(0, "cpu"), 0, Clock("cpu")))


def run_arm(preset: Preset, seed: int, arm: str, budget: float = math.inf, device: str = "cpu") -> Row:
    """Search, then train the base with what was found: what both cost, and the accuracy on the test images.

    The data is ready before the clocks start, and after `warm_up` all imports are. One final training is counted, the
    mean of those that there are, where the search has not trained its winner already. A winner whose training chose
    nothing is one of those that are judged.
    """
    data = preset.load(seed, device)
    task = Task(preset, data, seed, Clock(preset.clock), budget)
    found = ARMS[arm].search(task)
    search = task.clock.seconds()
    kept = [preset.job(data).evaluate(found.trained)["accuracy"]] if found.trained is not None else []
    accuracies, finals = kept, []
    for number in range(max(1, preset.finals - len(kept))):
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
        **found.about,
    }
