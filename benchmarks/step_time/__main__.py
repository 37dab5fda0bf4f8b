"""Predicted beside measured: the time of a training step of networks and of cuts of them.

What `prune(speedup=)` begins with, beside the same formula fitted to the other networks of the run, and FLOPs alone.
"""

from __future__ import annotations

import fnmatch
import sys
import time
import warnings
from collections.abc import Mapping, Sequence

import torch

from benchmarks.common import lines
from benchmarks.common.command import command
from benchmarks.step_time.cases import CASES, Case
from benchmarks.step_time.report import report
from benchmarks.step_time.rivals import rivals
from benchmarks.step_time.runs import OURS, Row, measured
from prunetune import keep_freed_memory


def main(arguments: Sequence[str] | None = None, cases: Mapping[str, Case] = CASES) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = command("step_time", __doc__, file=None)
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the networks whose names match")
    parser.add_argument("--batch", type=int, metavar="N", help="images in a batch (128 of 32 pixels, 4 of 224)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="for measuring, a network with its cuts"
    )
    parser.add_argument("--device", default="cpu")
    lines.add_arguments(parser, resume=False)
    options = parser.parse_args(arguments)
    lines.earlier(options, parser)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()  # as in the processes in which `prune(speedup=)` measures, and proxies are trained
    # On one thread the process's time is what a step takes if nothing else runs; a device does not count in it.
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    rows = []
    for name in fnmatch.filter(cases, options.model):
        for row in measured(name, cases[name], options, clock):
            rows.append(row)
            print(_line(row), file=sys.stderr, flush=True)
    if not rows:
        parser.error(f"no network matches {options.model!r}")
    rivals(rows)
    with lines.sitting(options.json, "torchvision", threads=1, seeds=[0]) as write:
        for row in rows:
            write(row)
    print(report(rows, markdown=options.markdown))
    return 0


def _line(row: Row) -> str:
    return f"{row['model']:<18} {row['cut']:<4} {row['measured']:8.3f} s  predicted {row['predicted'][OURS]:8.3f} s"


if __name__ == "__main__":
    raise SystemExit(main())
