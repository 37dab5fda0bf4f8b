"""A search of several workers whose trials sleep."""

from __future__ import annotations

from benchmarks.fault_drill.runs import Drill, Found, run


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
