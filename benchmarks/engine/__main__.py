"""Pruning engines side by side: which models they can prune, how far, in which time and memory.

Every model is built, analysed and pruned to half of its channels by every engine in a process of its own, on one
thread; the cut network must then train and evaluate. See benchmarks/README.md for what the columns mean.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import gc
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmarks.common import lines
from benchmarks.common.processes import Outcome, Task, run_all
from benchmarks.engine.cases import FAMILIES, Family
from benchmarks.engine.report import Row, report
from benchmarks.engine.rivals import ENGINES, Engine, prunetune
from benchmarks.engine.runs import measure, run_small

MEASURED_WITH = ("torchvision", "timm", "transformers")
Key = tuple[str, str, str]
"""Family, model, engine."""


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
            for row in _measure(chosen, engines, options, set(done)):
                rows.append(row)
                print(_line(row), file=sys.stderr, flush=True)
                write(row)
    finally:
        gc.unfreeze()
    print(report(rows, versions, markdown=options.markdown))
    return 0


def _parser(families: Mapping[str, Family]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--family", nargs="+", choices=families, default=list(families), metavar="NAME")
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the models whose names match")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME")
    parser.add_argument("--percentile", type=float, metavar="P", help="run ours once more, at this percentile")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds a model and engine")
    parser.add_argument("--limit", type=float, default=120.0, metavar="S", help="likewise, where depth is measured")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time; timings want 1")
    lines.add_arguments(parser, resume=True)
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser


def warm_up(engines: Mapping[str, Engine]) -> None:
    """Run every engine once, so that what it loads on first use is not counted for a model."""
    torch.ones(2, device="meta").softmax(0).mul(2).var()  # the first of many meta kernels loads a second's worth
    for engine in engines.values():
        run_small(engine)
    gc.collect()
    gc.freeze()  # children need not look through what the parent has loaded


def _measure(
    families: Mapping[str, Family], engines: Mapping[str, Engine], options: argparse.Namespace, done: set[Key]
) -> Iterator[Row]:
    over: dict[tuple[str, str], str] = {}  # (engine, series) → the model that took it too long
    skipped: list[Row] = []

    def tasks() -> Iterator[Task]:
        for family_name, family in families.items():
            for model in fnmatch.filter(family.names(), options.model):
                for name, engine in engines.items():
                    key = (family_name, model, name)
                    series = family.depths[model][0] if family.depths else ""
                    if key in done:
                        continue
                    if (name, series) in over:
                        reason = f"not run: {over[name, series]} was over {options.limit:g} s"
                        skipped.append(_row(key, family, Outcome(failure=reason)))
                        continue
                    seconds = options.limit if family.depths else options.timeout
                    yield Task(key, functools.partial(measure, family, model, engine), seconds)

    for task, outcome in run_all(tasks(), options.jobs):
        family_name, model, name = task.key
        family = families[family_name]
        if outcome.timed_out and family.depths:
            over.setdefault((name, family.depths[model][0]), model)
        yield _row(task.key, family, outcome)
        yield from _drain(skipped)
    yield from _drain(skipped)


def _drain(rows: list[Row]) -> list[Row]:
    taken, rows[:] = list(rows), []
    return taken


def _row(key: Key, family: Family, outcome: Outcome) -> Row:
    row: Row = dict(zip(("family", "model", "engine"), key, strict=True))
    row |= {"ok": outcome.failure is None, "reason": outcome.failure, "stage": outcome.stage, **outcome.values}
    if family.depths:
        row["series"], row["depth"] = family.depths[key[1]]
    return row


def _line(row: Mapping[str, Any]) -> str:
    seconds = f"{row['cpu_seconds']:.2f} s" if "cpu_seconds" in row else "-"
    layers = f"{row['layers_shrunk']}/{row['layers']}" if "layers_shrunk" in row else "-"
    result = "ok" if row["ok"] else f"FAILED while {row['stage']}: {row['reason']}"
    return f"{row['family']:<14} {row['model']:<32} {row['engine']:<16} {seconds:>9} {layers:>8}  {result}"


if __name__ == "__main__":
    sys.exit(main())
