"""Scorers side by side: how long they take, what they keep, and how much faster a training step of the proxy is.

Every scorer prunes every network at the paper's p = 85 and floor 0.15, on scans of handwritten digits. Scorers that
need a trained network get one that was trained for a few steps, with the penalty of network slimming. See README.md in
this folder for what the columns mean.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.common import lines
from benchmarks.common.command import command
from benchmarks.common.tables import table
from benchmarks.scorers.runs import HEADER, measured
from prunetune.plugins import scorers


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line names, and print the table."""
    parser = command("scorers", __doc__, file=None)
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the networks whose names match")
    parser.add_argument(
        "--scorer", nargs="+", default=scorers.names(), metavar="NAME", help="parts may follow: snip+sum"
    )
    parser.add_argument("--batch", type=int, default=128, help="images of a training step (128)")
    parser.add_argument("--train-steps", type=int, default=20, help="for scorers that need a trained network (20)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which the steps of each proxy are timed (3)")
    lines.add_arguments(parser, resume=False)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    lines.earlier(options, parser)
    rows: list[dict[str, Any]] = []
    shared = {"threads": torch.get_num_threads(), "batch": options.batch, "train_steps": options.train_steps, "seed": 0}
    with lines.sitting(options.json, "torchvision", "scikit-learn", **shared) as write:
        for row in measured(options):
            rows.append(row)
            print(f"{row['network']:<16} {row['scorer']:<20} {row.get('failure') or 'ok'}", file=sys.stderr, flush=True)
            write(row)
    print(table(HEADER, [[row.get(column) for column in HEADER] for row in rows], markdown=options.markdown))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
