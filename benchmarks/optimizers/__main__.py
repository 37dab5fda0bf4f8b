"""Optimizers and trial pruners side by side, on learning curves of real trainings; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from typing import Final, TypeAlias

import optuna
import torch

from benchmarks.common import lines
from benchmarks.common.curves import GRIDS, Table, load
from benchmarks.optimizers import rivals as natives
from benchmarks.optimizers.overhead import overhead
from benchmarks.optimizers.report import report
from benchmarks.optimizers.runs import Extent, Row, search
from prunetune.backends import full_name, optimizers, trial_pruners
from prunetune.backends.samplers.seeded import sampler

Key: TypeAlias = tuple[str, str, str, str, int]
"""Part, table, optimizer, trial pruner, seed."""
Job: TypeAlias = tuple[Key, Callable[[], Row]]

WORKERS: Final = 4
SEARCHED_WITH: Final = ("numpy", "scikit-learn", "nevergrad", "scikit-optimize", "cmaes")
KEY: Final = ("part", "table", "optimizer", "trial_pruner", "seed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _quiet()
    rows = lines.earlier(options, parser)
    done = {tuple(row[name] for name in KEY) for row in rows}
    with lines.sitting(options.json, *SEARCHED_WITH, jobs=options.jobs) as write:
        waiting = [(key, job) for key, job in _jobs(options) if key not in done]
        for row in _rows(waiting, options.jobs):
            rows.append(row)
            print(
                f"{' '.join(str(row[name]) for name in KEY)}: {row['cpu_seconds']:.1f} s", file=sys.stderr, flush=True
            )
            write(row)
    print(report(rows, markdown=options.markdown))
    return 0


def _rows(jobs: Sequence[Job], processes: int) -> Iterator[Row]:
    """The rows of the jobs: one after the other in this process, or as they end in so many others."""
    if processes == 1:
        yield from (_row(*job) for job in jobs)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _quiet) as pool:
        try:
            for ended in as_completed([pool.submit(_row, *job) for job in jobs]):
                yield ended.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _row(key: Key, job: Callable[[], Row]) -> Row:
    started = time.process_time()
    row = dict(zip(KEY, key, strict=True)) | job()
    return {**row, "cpu_seconds": round(time.process_time() - started, 2)}


def _quiet() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    known = optimizers.names()
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--table", nargs="+", choices=GRIDS, default=list(GRIDS), metavar="NAME")
    parser.add_argument("--optimizer", nargs="+", choices=known, default=_full_names(), metavar="NAME")
    pruners = trial_pruners.names()
    parser.add_argument("--trial-pruner", nargs="+", choices=pruners, default=pruners, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each kind (20)")
    parser.add_argument("--trials", type=int, default=50, help="full trials, or their epochs, of a search (50)")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time (1); more spoil the overhead's times")
    lines.add_arguments(parser, resume=True)
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser


def _full_names() -> list[str]:
    return [name for name in optimizers.names() if full_name(name) == name]


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Seed by seed, so that a benchmark that is interrupted has as many searches of every kind."""
    extent = Extent(options.trials)
    for seed, part, table, optimizer in product(
        range(options.seeds), options.part, options.table, map(full_name, options.optimizer)
    ):
        first = seed == 0 and table == options.table[0]
        if PARTS[part].of(optimizer) and (first or not PARTS[part].once):
            for pruner in options.trial_pruner if PARTS[part].pruned else ["none"]:
                run = functools.partial(PARTS[part].run, load(table), optimizer, pruner, seed, extent)
                yield (part, table, optimizer, pruner, seed), run


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

if __name__ == "__main__":
    sys.exit(main())
