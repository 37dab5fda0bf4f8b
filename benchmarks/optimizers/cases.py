"""The parts of the experiment: which searches, of which optimizers, with which trial pruners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.common.curves import Table
from benchmarks.optimizers import rivals as natives
from benchmarks.optimizers.runs import Extent, Row, overhead, search
from prunetune.backends.samplers.seeded import sampler

WORKERS: Final = 4


@dataclass(frozen=True)
class Part:
    """A part of the benchmark: what it measures, of which optimizers, with all trial pruners or with none."""

    run: Callable[[Table, str, str, int, Extent], Row]
    of: Callable[[str], bool] = lambda optimizer: True
    pruned: bool = False
    once: bool = False


def _search(table: Table, optimizer: str, trial_pruner: str, seed: int, extent: Extent) -> Row:
    row = extent.row(search(table, sampler(optimizer, seed), trial_pruner, seed, extent), table)
    if trial_pruner != "none":
        del row["after_trials"]  # which are then of any length
    return row


def _workers(table: Table, optimizer: str, trial_pruner: str, seed: int, extent: Extent) -> Row:
    record = search(table, sampler(optimizer, seed), trial_pruner, seed, extent, workers=WORKERS)
    return extent.row(record, table)


def _native(table: Table, optimizer: str, trial_pruner: str, seed: int, extent: Extent) -> Row:
    return extent.row(natives.search(table, optimizer, seed, extent.trials), table)


def _integers(table: Table, optimizer: str, trial_pruner: str, seed: int, extent: Extent) -> Row:
    return extent.row(natives.search(table, optimizer, seed, extent.trials, integers=True), table)


def _from_the_centre(table: Table, optimizer: str, trial_pruner: str, seed: int, extent: Extent) -> Row:
    return extent.row(search(table, natives.without_startup(optimizer, seed), trial_pruner, seed, extent), table)


def _overhead(table: Table, optimizer: str, trial_pruner: str, seed: int, extent: Extent) -> Row:
    return overhead(table, optimizer, [1, extent.trials, 4 * extent.trials])


PARTS: Final[dict[str, Part]] = {
    "overhead": Part(_overhead, once=True),
    "search": Part(_search, pruned=True),
    "workers": Part(_workers),
    "native": Part(_native, of=natives.has),
    "native-integers": Part(_integers, of=natives.has_integers),
    "no-startup": Part(_from_the_centre, of=natives.has_startup),
}
