"""Run functions in forked children, each with a time limit, and measure them from inside. Linux only.

A fork inherits everything that the parent has imported, so that a child starts in milliseconds and imports are paid
once; and whatever happens to it (a hang, a crash, memory that runs out) costs one result and not the run.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Report:
    """How a child tells its parent where it is (`stage`) and what it knows (`add`): both survive its death."""

    connection: Connection

    def stage(self, name: str) -> None:
        self.connection.send(("stage", name))

    def add(self, **values: Any) -> None:
        self.connection.send(("values", values))


@dataclass(frozen=True)
class Task:
    """A function to run in a child, and the seconds that it may take."""

    key: Any
    function: Callable[[Report], None]
    seconds: float


@dataclass
class Outcome:
    """What a child reported, and how it ended."""

    values: dict[str, Any] = field(default_factory=dict)
    stage: str = "starting"
    failure: str | None = None
    """None if it ended well; else the exception, the signal, or that its time was up."""
    timed_out: bool = False


@dataclass
class _Child:
    task: Task
    process: BaseProcess
    connection: Connection
    deadline: float
    outcome: Outcome = field(default_factory=Outcome)
    ended: bool = False


def run_all(tasks: Iterable[Task], jobs: int = 1) -> Iterator[tuple[Task, Outcome]]:
    """Every task with its outcome, as they end; `jobs` children at a time. Tasks are drawn one by one, when needed."""
    queue = iter(tasks)
    running: list[_Child] = []
    try:
        while True:
            while len(running) < jobs and (task := next(queue, None)) is not None:
                running.append(_start(task))
            if not running:
                return
            patience = min(child.deadline for child in running) - time.monotonic()
            ready = wait([child.connection for child in running], max(0.0, patience))
            for child in list(running):
                if child.connection in ready:
                    _receive(child)
                elif time.monotonic() >= child.deadline:
                    _give_up(child)
                if child.ended:
                    running.remove(child)
                    yield child.task, child.outcome
    finally:
        for child in running:
            child.process.kill()


def _start(task: Task) -> _Child:
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_in_child, args=(task.function, theirs))
    with warnings.catch_warnings():  # Python 3.12 warns of forks where threads run
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return _Child(task, process, ours, time.monotonic() + task.seconds)


def _in_child(function: Callable[[Report], None], connection: Connection) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process goes and not its parent
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        function(Report(connection))
        connection.send(("ended", None))
    except BaseException as error:  # also SystemExit: whatever a library does is a result here
        connection.send(("ended", f"{type(error).__name__}: {_first_line(error)}"))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _receive(child: _Child) -> None:
    try:
        kind, content = child.connection.recv()
    except EOFError:
        child.process.join()
        kind, content = "ended", _death(child.process.exitcode)
    if kind == "stage":
        child.outcome.stage = content
    elif kind == "values":
        child.outcome.values.update(content)
    else:
        child.outcome.failure = content
        _close(child)


def _death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed, which is what Linux does when memory runs out"
    return f"died of {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with status {code}"


def _give_up(child: _Child) -> None:
    child.process.kill()
    child.outcome.failure = f"over {child.task.seconds:g} s"
    child.outcome.timed_out = True
    _close(child)


def _close(child: _Child) -> None:
    child.process.join()
    child.connection.close()
    child.ended = True


@dataclass
class Usage:
    """What a block of code took; filled in when it ends."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_mib: float = 0.0
    """How far resident memory rose above what it was at the start."""


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the block: CPU time of this process, wall time, and the peak of its resident memory."""
    usage = Usage()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _peak_kib()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield usage
    finally:
        usage.cpu_seconds, usage.wall_seconds = time.process_time() - cpu, time.perf_counter() - wall
        usage.peak_mib = (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM; peak memory can only be measured on Linux")
