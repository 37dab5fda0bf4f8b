"""How much faster several workers are than one, where trials sleep: `python -m benchmarks.workers`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common.command import command, provenance, write
from benchmarks.common.postgres import postgres
from benchmarks.workers.cases import EXECUTORS, pace, trials_of, workers_of
from benchmarks.workers.runs import measure, overlap


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 1 if something is wrong."""
    parser = command("workers", __doc__, file="write the rows to this file", markdown=False)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a trial")
    parser.add_argument("--trials", type=int, default=12, help="of each worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, help="measure tune(workers=…) with these instead")
    options = parser.parse_args(arguments)
    if options.executors:
        rows = measure_executors(options.executors, options.workers, options.seconds, options.trials)
        write(options.json, {**provenance(), "trial_seconds": options.seconds, "rows": rows})
        return 0
    rows = []
    print("| storage | workers | trials | s | times as fast as one | trials at a time |\n|---|---|---|---|---|---|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres())
        for name in ("sqlite", "journal", "postgresql"):
            pace = 0.0
            for workers in options.workers:
                file = folder / f"{name}{workers}"
                urls = {"sqlite": f"sqlite:///{file}", "journal": f"journal://{file}"}
                url = urls.get(name) or server.database(f"workers{workers}")
                found = measure(url, workers, options.seconds, options.trials)
                rate = len(found.finished) / found.seconds
                pace = pace or rate / workers
                row = (name, workers, len(found.finished), f"{found.seconds:.1f}", f"{rate / pace:.2f}")
                print("|", *(f"{cell} |" for cell in (*row, f"{overlap(found):.2f}")), flush=True)
                rows.append(
                    {
                        "storage": name,
                        "workers": workers,
                        "trials": len(found.finished),
                        "seconds": found.seconds,
                        "times_as_fast_as_one": rate / pace,
                        "trials_at_a_time": overlap(found),
                    }
                )
    write(options.json, {**provenance(), "trial_seconds": options.seconds, "rows": rows})
    return 0


def measure_executors(names: Sequence[str], counts: Sequence[int], seconds: float, each: int) -> list[dict[str, Any]]:
    """A row for each executor and number of workers, printed as it comes."""
    rows = []
    print("| executor | workers | trials | trials a second | times as fast as the first |\n|---|---|---|---|---|")
    for name in names:
        first = 0.0
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                trials = trials_of(name, count, seconds, each, Path(folder))
            if (there := workers_of(trials)) != count:
                raise SystemExit(f"{name}: {there} workers took part instead of {count}")
            rate = pace(trials)
            first = first or rate
            print(f"| {name} | {count} | {len(trials)} | {rate:.3f} | {rate / first:.2f} |", flush=True)
            rows.append({"executor": name, "workers": count, "trials": len(trials), "trials_a_second": rate})
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
