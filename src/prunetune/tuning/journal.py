"""What a run writes down: its record, the time and the energy of its phases, its folder, and who hears of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from prunetune.events import Event, Observer, OthersEnded, Phase, PhaseEnded, PhaseStarted, TrialEnded
from prunetune.record.folder import FORMAT, RunFolder
from prunetune.record.provenance import Record, read_params
from prunetune.record.schema import Result, TimePart, plain
from prunetune.record.stored import LATER
from prunetune.tuning.energy import Meter

BEAT_SECONDS: Final = 1.0
PAUSE: Final = 19.0
"""Between two updates of the record, at least so many times what one takes."""
AT_WORK: Final = {"searching": "search", "climbing": "climb", "confirming": "confirm"}
"""The phases whose time goes on while a run has that status."""
EMPTY: Final = (*LATER, "confirmation")
"""What is in a record though there is nothing to say yet."""


class Journal:
    """The record of a run, which is what ``result.json`` holds, and all that is written beside it."""

    def __init__(self, folder: RunFolder, observer: Observer, meter: Meter) -> None:
        self.folder = folder
        self.observer = observer
        self.record: Record = {}
        self.seconds = dict.fromkeys(("prune", "measure", "search", "climb", "confirm", "total"), 0.0)
        self._meter = meter
        self._clock = time.perf_counter()

    def begin(self, result: Result) -> None:
        """Start the record of a run that is new."""
        unknown = TimePart(estimate_basis="not known yet")
        known = plain(replace(result, confirmation=(), time=unknown, test={}))
        self.record = {name: each for name, each in known.items() if each not in (None, []) or name in EMPTY}

    def go_on_with(self, record: Record) -> None:
        """Take up what an earlier start has written."""
        self.record = record
        self.seconds = {name: record["time"].get(name) or 0.0 for name in self.seconds}  # old ones had no "climb"
        for name in {AT_WORK.get(record["status"], "total"), "total"}:
            self.seconds[name] += self._unwritten()

    def after_trials(self, update: Callable[[], None]) -> Observer:
        """An observer that hands on, and before that writes down what ``update`` makes of a trial that has ended.

        That takes the longer the more trials there are. So where trials take next to no time it is not done after each:
        it gets a twentieth of the time at most. Trials are in their study in any case, and who ends the search updates.
        """
        due = 0.0

        def observe(event: Event) -> None:
            nonlocal due
            if isinstance(event, TrialEnded | OthersEnded) and (started := time.perf_counter()) >= due:
                update()
                self.save()
                ended = time.perf_counter()
                due = ended + PAUSE * (ended - started)
            self.observer(event)

        return observe

    def _unwritten(self) -> float:
        """How long a process that was killed had been at work since it wrote the record."""
        try:
            return max(0.0, os.stat(self.folder.alive).st_mtime - os.stat(self.folder.result).st_mtime)
        except OSError:
            return 0.0

    def elapsed(self) -> float:
        """Seconds since the run was first started, without the time between its starts."""
        return self.seconds["total"] + time.perf_counter() - self._clock

    def lap(self, name: str) -> None:
        """Add the time since the last lap to phase ``name`` and to the total; both go on over restarts."""
        now = time.perf_counter()
        for each in {name, "total"}:
            self.seconds[each] += now - self._clock
        self._clock = now

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Whatever ends the block, what is known by then is in ``result.json``."""
        self.record.pop("error", None)
        self.save()  # so that time which a killed process had not written is counted once
        try:
            with beating(self.folder.alive):
                yield
        except Exception as error:
            self.record.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.lap("total")
            self.save()

    @contextlib.contextmanager
    def phase(self, phase: Phase) -> Iterator[Callable[[str], None]]:
        """Events around the block; what it hands to the function that it gets is the message of the last."""
        messages = [""]
        started = time.perf_counter()
        self.observer(PhaseStarted(phase))
        yield messages.append
        self.observer(PhaseEnded(phase, time.perf_counter() - started, messages[-1]))

    @contextlib.contextmanager
    def metered(self, phase: str) -> Iterator[None]:
        """The energy of the block, where it is measured, in the record; what starting that takes is no training."""
        with self._meter.measured(self.record, phase):
            self.lap("measure")
            yield

    def set_status(self, status: str) -> None:
        """Write down what the run is at."""
        self.record["status"] = status
        self.save()

    def save(self) -> None:
        """Write ``result.json``."""
        self.record["time"].update(self.seconds)
        self.folder.write_json(self.folder.result, self.record)

    def write_best(self, network: str, best: Record) -> None:
        """Write the best hyperparameters so far, and the ``network`` that says so."""
        params = read_params(self.record, best["params"])
        unread = {name: value for name, value in best["params"].items() if name not in params}
        apart = {"params": params, **({"not_read": unread} if unread else {})}
        self.folder.write_json(self.folder.best, {"format": FORMAT, "network": network, **best, **apart})


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """While the block lasts the file at ``path`` is touched all the time; a kill leaves it, and when that was."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                path.touch()

    thread = threading.Thread(target=beat, name="prunetune-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
