"""Do proxies of a small language model rank its hyperparameters? Widths and depths, with the transfer rule and without.

Configurations of learning rate, weight decay, warm-up and beta 2 for AdamW; and a search of prunetune's against random
search at its cost. See benchmarks/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import lines
from benchmarks.common.command import command, provenance, write
from benchmarks.common.pool import as_they_end
from benchmarks.gpt.cases import SCALES, WAYS
from benchmarks.gpt.report import report, summary
from benchmarks.gpt.runs import measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not there yet, and print the tables; returns the exit status."""
    parser = command("gpt", __doc__, file="write the summary to this file")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu: an hour of a core")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a JSON line a training; what is in it is kept")
    parser.add_argument("--searches", type=int, default=5, metavar="N", help="ladders (5)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on one thread (1)")
    options = parser.parse_args(arguments)
    count = SCALES[options.scale].configurations
    wanted = [(way.name, each) for way in WAYS for each in range(count)]
    wanted += [("ladder", seed) for seed in range(options.searches)]
    rows = lines.results(options.rows)
    done = {(row["way"], row["configuration"]) for row in rows}
    waiting = [(options.scale, *key) for key in wanted if key not in done]
    with lines.appended(options.rows) as add:
        for row in as_they_end(measured, waiting, options.jobs):
            rows.append(row)
            add(row)
            print(f"{row['way']}, {row['configuration']}: {row['test']}, {row['cpu']:.1f} s", file=sys.stderr)
    found = summary(rows, count)
    print(report(found, markdown=options.markdown))
    write(options.json, {"benchmark": "gpt", "settings": {"scale": options.scale}, **provenance(), **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
