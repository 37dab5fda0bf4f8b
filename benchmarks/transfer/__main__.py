"""Does a proxy rank hyperparameters as the full network does? Every scorer and every rival at equal cost.

The same configurations are trained on the full network with several seeds, on every scorer's proxy, and by every cheap
use of the full network itself. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from benchmarks.common.command import command, write
from benchmarks.common.pool import as_they_end
from benchmarks.transfer.cases import SCALES, Scale
from benchmarks.transfer.report import document, report, summaries
from benchmarks.transfer.runs import KEY, Row, jobs, key, read, run_one

FIELDS: Final = (*KEY, "val", "test", "cpu_seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not there yet, and print the tables; returns the exit status."""
    parser = command("transfer", __doc__, file="write the summary to this file")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu: an hour of a core")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a CSV line for each training; what is in it is kept")
    parser.add_argument(
        "--from", type=Path, nargs="+", dest="source", metavar="FILE", help="only the tables, from such files"
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="K/N",
        help="only every Nth training, from the Kth: 1/12, …",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on one thread (1)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many")
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    if options.source is None:
        sources = [options.rows] if options.rows is not None and options.rows.exists() else []
    else:
        sources = options.source
    rows = list({key(row): row for path in sources for row in read(path)}.values())
    if options.source is None:
        rows += train(scale, {key(row) for row in rows}, options)
    found = summaries(rows, scale)
    print(report(found, markdown=options.markdown))
    write(options.json, document(found, options))
    return 0


def _shard(text: str) -> tuple[int, int]:
    """K and N of "K/N"."""
    place, _, shards = text.partition("/")
    if not (place.isdigit() and shards.isdigit() and 1 <= int(place) <= int(shards)):
        raise argparse.ArgumentTypeError(f"{text!r} must be K/N with K from 1 to N, such as 3/12")
    return int(place), int(shards)


def train(scale: Scale, done: set[tuple[Any, ...]], options: argparse.Namespace) -> list[Row]:
    """The trainings that are not done; each is written as it ends. None begins when the time is up."""
    deadline = time.monotonic() + options.seconds

    def in_time(_: object = None) -> bool:
        return time.monotonic() <= deadline

    place, shards = options.shard
    waiting = [arguments for key, arguments in list(jobs(scale))[place - 1 :: shards] if key not in done]
    rows = []
    fresh = options.rows is not None and not options.rows.exists()
    file = options.rows.open("a", newline="", encoding="utf-8") if options.rows is not None else None
    writer = csv.DictWriter(file, FIELDS) if file is not None else None
    if writer is not None and fresh:
        writer.writeheader()
    try:
        for row in as_they_end(run_one, takewhile(in_time, waiting), options.jobs):
            rows.append(row)
            print(" ".join(str(row[name]) for name in (*KEY, "val", "cpu_seconds")), file=sys.stderr, flush=True)
            if writer is not None and file is not None:
                writer.writerow(row)
                file.flush()
            if not in_time():
                break
    finally:
        if file is not None:
            file.close()
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
