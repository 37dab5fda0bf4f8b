"""Which cheap trainings rank the hyperparameters of fine-tuning? Cut networks, redrawn or recovered, and full ones.

A ResNet that has learnt five classes learns five others; a transformer that has read prose reads programs. See
benchmarks/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import lines
from benchmarks.common.command import command, provenance, write
from benchmarks.common.pool import as_they_end
from benchmarks.finetuning.cases import SCALES, TASKS, WAYS
from benchmarks.finetuning.report import report, summary
from benchmarks.finetuning.runs import measured

KEY = ("task", "way", "seed", "configuration")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not there yet, and print the tables; returns the exit status."""
    parser = command("finetuning", __doc__, file="write the summary to this file")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu: an hour of a core")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a JSON line a training; what is in it is kept")
    parser.add_argument("--seeds", type=int, metavar="N", help="pretrained networks a task (default: of the scale)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on one thread (1)")
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    wanted = [
        (task.name, way.name, seed, each)
        for seed in range(options.seeds or scale.seeds)
        for task in TASKS
        for way in WAYS
        for each in range(scale.configurations)
    ]
    rows = [row for row in lines.results(options.rows) if tuple(row[name] for name in KEY) in set(wanted)]
    done = {tuple(row[name] for name in KEY) for row in rows}
    waiting = [(options.scale, *key) for key in wanted if key not in done]
    with lines.appended(options.rows) as add:
        for row in as_they_end(measured, waiting, options.jobs):
            rows.append(row)
            add(row)
            print(f"{row['way']}, {row['configuration']}: {row['loss']}, {row['cpu']:.1f} s", file=sys.stderr)
    found = summary(rows, scale.configurations)
    print(report(found, markdown=options.markdown))
    write(options.json, {"benchmark": "finetuning", "settings": {"scale": options.scale}, **provenance(), **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
