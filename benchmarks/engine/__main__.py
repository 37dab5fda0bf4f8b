"""Pruning engines side by side: which models they can prune, how far, in which time and memory.

Every model is built, analysed and pruned to half of its channels by every engine in a process of its own, on one
thread; the cut network must then train and evaluate. See benchmarks/README.md for what the columns mean.
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.common import lines
from benchmarks.common.command import command
from benchmarks.engine.cases import FAMILIES, Family
from benchmarks.engine.report import report
from benchmarks.engine.rivals import ENGINES, prunetune
from benchmarks.engine.runs import measured_side_by_side, warm_up

MEASURED_WITH = ("torchvision", "timm", "transformers")


def main(arguments: Sequence[str] | None = None, families: Mapping[str, Family] = FAMILIES) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = _parser(families)
    options = parser.parse_args(arguments)
    engines = {name: ENGINES[name] for name in options.engine}
    if options.percentile is not None:
        engines[f"prunetune p{options.percentile:g}"] = prunetune(options.percentile)
    done = {(row["family"], row["model"], row["engine"]): row for row in lines.earlier(options, parser)}
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    warm_up(engines)
    chosen = {name: families[name] for name in options.family}
    versions = {name: engine.version for name, engine in engines.items()}
    rows = list(done.values())
    try:
        with lines.sitting(options.json, *MEASURED_WITH, engines=versions, threads=1, timeout=options.timeout) as write:
            for row in measured_side_by_side(chosen, engines, options, set(done)):
                rows.append(row)
                print(_line(row), file=sys.stderr, flush=True)
                write(row)
    finally:
        gc.unfreeze()
    print(report(rows, versions, markdown=options.markdown))
    return 0


def _parser(families: Mapping[str, Family]) -> argparse.ArgumentParser:
    parser = command("engine", __doc__, file=None)
    parser.add_argument("--family", nargs="+", choices=families, default=list(families), metavar="NAME")
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the models whose names match")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME")
    parser.add_argument("--percentile", type=float, metavar="P", help="run ours once more, at this percentile")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds a model and engine")
    parser.add_argument("--limit", type=float, default=120.0, metavar="S", help="likewise, where depth is measured")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time; timings want 1")
    lines.add_arguments(parser, resume=True)
    return parser


def _line(row: Mapping[str, Any]) -> str:
    seconds = f"{row['cpu_seconds']:.2f} s" if "cpu_seconds" in row else "-"
    layers = f"{row['layers_shrunk']}/{row['layers']}" if "layers_shrunk" in row else "-"
    result = "ok" if row["ok"] else f"FAILED while {row['stage']}: {row['reason']}"
    return f"{row['family']:<14} {row['model']:<32} {row['engine']:<16} {seconds:>9} {layers:>8}  {result}"


if __name__ == "__main__":
    raise SystemExit(main())
