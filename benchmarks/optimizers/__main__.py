"""Optimizers and trial pruners side by side, on learning curves of real trainings; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from benchmarks.common import lines
from benchmarks.common.command import command
from benchmarks.common.curves import GRIDS, load
from benchmarks.common.pool import as_they_end
from benchmarks.optimizers.cases import PARTS
from benchmarks.optimizers.report import report
from benchmarks.optimizers.runs import KEY, Extent, Job, measured, quiet
from prunetune.backends import full_name, optimizers, trial_pruners

SEARCHED_WITH: Final = ("numpy", "scikit-learn", "nevergrad", "scikit-optimize", "cmaes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    quiet()
    rows = lines.earlier(options, parser)
    done = {tuple(row[name] for name in KEY) for row in rows}
    with lines.sitting(options.json, *SEARCHED_WITH, jobs=options.jobs) as write:
        waiting = [(key, job) for key, job in _jobs(options) if key not in done]
        for row in as_they_end(measured, waiting, options.jobs, quiet):
            rows.append(row)
            print(
                f"{' '.join(str(row[name]) for name in KEY)}: {row['cpu_seconds']:.1f} s", file=sys.stderr, flush=True
            )
            write(row)
    print(report(rows, markdown=options.markdown))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command("optimizers", __doc__, file=None)
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


if __name__ == "__main__":
    raise SystemExit(main())
