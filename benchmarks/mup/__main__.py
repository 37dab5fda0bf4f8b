"""Is the width correction right? How far a step moves each layer, and the best learning rate, at several widths.

Both with the transfer rule `mup` and with `identity`, on real data. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import lines
from benchmarks.common.command import command, write
from benchmarks.common.pool import as_they_end
from benchmarks.mup.report import document, report, summary, write_figures
from benchmarks.mup.runs import SCALES, Row, jobs, key, measured


def measure(waiting: Sequence[Row], options: argparse.Namespace) -> list[Row]:
    """The rows of these jobs; each is written as it comes."""
    begun, rows = time.monotonic(), []
    with lines.appended(options.rows) as add:
        for row in as_they_end(measured, ((options.scale, job) for job in waiting), options.jobs):
            rows.append(row)
            add(row)
            if len(rows) % 20 == 0:
                print(f"{len(rows)} of {len(waiting)}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not there yet, and print the tables; returns the exit status."""
    parser = command("mup", __doc__, file="write the summary to this file")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu: some 100 minutes of a core")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a JSON line a measurement; what is in it is kept")
    parser.add_argument("--jobs", type=int, default=1, help="measurements at a time, each on one thread (1)")
    parser.add_argument("--seeds", type=int, metavar="N", help="default: those of the scale")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write HTML, and SVG where kaleido is installed")
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    scale = scale if options.seeds is None else replace(scale, seeds=options.seeds, coordinate_seeds=options.seeds)
    wanted = sorted(jobs(scale), key=lambda job: job["seed"])  # what is interrupted has whole seeds
    kept = {key(row): row for row in lines.results(options.rows)}
    rows = [kept[key(job)] for job in wanted if key(job) in kept]
    rows += measure([job for job in wanted if key(job) not in kept], options)
    found = summary(rows, scale)
    print(report(found, markdown=options.markdown))
    write(options.json, document(found, rows, options.scale, scale))
    if options.figures is not None:
        write_figures(found, {task.name: task.rates for task in scale.tasks}, options.figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
