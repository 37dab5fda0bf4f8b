"""How much faster several workers are than one, where trials sleep: `python -m benchmarks.workers`."""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from torch import nn

from benchmarks.common.postgres import postgres
from benchmarks.fault_drill.runs import Drill, Found, run
from prunetune.record.provenance import machine, versions


def overlap(found: Found) -> float:
    """How many trials ran at the same time, on average, from the first one's start to the last one's end."""
    spans = [(t.datetime_start, t.datetime_complete) for t in found.trials]
    known = [(start.timestamp(), end.timestamp()) for start, end in spans if start is not None and end is not None]
    whole = max(end for _, end in known) - min(start for start, _ in known)
    return sum(end - start for start, end in known) / whole


def measure(url: str, workers: int, seconds: float, each: int) -> Found:
    """A search of `each` trials a worker, of about so many seconds."""
    drill = Drill(url, n_trials=each * workers, workers=workers, kills=0, trial_seconds=seconds)
    found = run(drill)
    if found.failures:
        raise SystemExit("; ".join(found.failures))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a trial")
    parser.add_argument("--trials", type=int, default=12, help="of each worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    given = parser.parse_args()
    rows = []
    print("| storage | workers | trials | s | times as fast as one | trials at a time |\n|---|---|---|---|---|---|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres())
        for name in ("sqlite", "journal", "postgresql"):
            pace = 0.0
            for workers in given.workers:
                file = folder / f"{name}{workers}"
                urls = {"sqlite": f"sqlite:///{file}", "journal": f"journal://{file}"}
                url = urls.get(name) or server.database(f"workers{workers}")
                found = measure(url, workers, given.seconds, given.trials)
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
    if given.json is not None:
        where = {"machine": machine(nn.Linear(1, 1)), "versions": versions()}
        given.json.write_text(json.dumps({**where, "trial_seconds": given.seconds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
