"""Is the width correction right? How far a step moves each layer, and the best learning rate, at several widths.

Both with the transfer rule `mup` and with `identity`, on real data. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

from torch import nn

from benchmarks.mup.report import report, summary, write_figures
from benchmarks.mup.runs import MUP, RULES, SCALES, Row, Scale, coordinates, rate
from prunetune.record.provenance import machine, versions

PARTS: Final = {"rates": rate, "coordinates": coordinates}
KEY: Final = ("part", "task", "rule", "width", "seed", "rate")


def jobs(scale: Scale) -> Iterator[Row]:
    """Every measurement, as the start of its row; on the full network both rules are the same, and it is run once."""
    for part, seeds in (("coordinates", scale.coordinate_seeds), ("rates", scale.seeds)):
        for width in scale.widths:
            for task in scale.tasks:
                for rule in RULES if width < 1 else (MUP,):
                    for each in task.rates if part == "rates" else () if task.step is None else (task.step,):
                        for seed in range(seeds):
                            yield dict(zip(KEY, (part, task.name, rule, width, seed, each), strict=True))


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row is of."""
    return tuple(row[name] for name in KEY)


def measured(scale: str, job: Row) -> Row:
    """The whole row of a job."""
    task = next(task for task in SCALES[scale].tasks if task.name == job["task"])
    begun = time.process_time()
    found = PARTS[job["part"]](SCALES[scale], task, job)
    return {**job, **found, "cpu_seconds": round(time.process_time() - begun, 3)}


def read(path: Path, scale: Scale) -> list[Row]:
    """The rows of ``scale`` in a file; a line that a killed run has left unfinished is measured again."""
    wanted = {key(job) for job in jobs(scale)}
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if key(row) in wanted:
            rows.append(row)
    return rows


def measure(waiting: Sequence[Row], options: argparse.Namespace) -> list[Row]:
    """The rows of these jobs; each is written as it comes."""
    begun, rows = time.monotonic(), []
    for row in _results(waiting, options):
        rows.append(row)
        if options.rows is not None:
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if len(rows) % 20 == 0:
            print(f"{len(rows)} of {len(waiting)}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


def _results(waiting: Sequence[Row], options: argparse.Namespace) -> Iterator[Row]:
    if options.jobs == 1:
        yield from (measured(options.scale, job) for job in waiting)
        return
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for ended in as_completed([pool.submit(measured, options.scale, job) for job in waiting]):
                yield ended.result()
        finally:
            pool.shutdown(cancel_futures=True)


def document(found: Mapping[str, Any], rows: Sequence[Row], scale: str) -> dict[str, Any]:
    """The summary with where it comes from."""
    settings = SCALES[scale]
    plain = {name: getattr(settings, name) for name in ("dataset", "pixels", "images", "val", "batch", "widths")}
    tasks = {
        task.name: {name: getattr(task, name) for name in ("epochs", "rates", "step", "optimizer", "weight_decay")}
        for task in settings.tasks
    }
    return {
        "benchmark": "mup",
        "settings": {"scale": scale, **plain, "tasks": tasks},
        "seeds": {"rates": list(range(settings.seeds)), "coordinates": list(range(settings.coordinate_seeds))},
        "machine": {**machine(nn.Linear(1, 1)), "load": os.getloadavg()[0]},
        "versions": versions(),
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        **found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not there yet, and print the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mup", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu: under 25 minutes of a core")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a JSON line a measurement; what is in it is kept")
    parser.add_argument("--jobs", type=int, default=1, help="measurements at a time, each on one thread (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary to this file")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write HTML, and SVG where kaleido is installed")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    rows = read(options.rows, scale) if options.rows is not None and options.rows.exists() else []
    known = {key(row) for row in rows}
    rows += measure([job for job in jobs(scale) if key(job) not in known], options)
    found = summary(rows, scale)
    print(report(found, markdown=options.markdown))
    if options.json is not None:
        options.json.write_text(json.dumps(document(found, rows, options.scale), indent=1) + "\n")
    if options.figures is not None:
        write_figures(found, {task.name: task.rates for task in scale.tasks}, options.figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
