"""Signals to runs and workers, and what became of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from prunetune.backends.study.heartbeat import Heartbeat

CONFIG = """
model.name = "resnet8"
data = { name = "digits", image_size = 8 }
pruning = { scorer = "magnitude", ratio = 0.5 }
run = { folder = "FOLDER", device = "cpu" }

[search]
n_trials = TRIALS
epochs = 4
trial_pruner = "none"
optimizer = "random"
space.learning_rate = { low = 1e-3, high = 0.3, log = true }
space.batch_size = { choices = [64, 128] }
"""
WORKERS = 2
BARE_SECONDS = 0.5  # Python itself begins in this time, before a line of ours has run
OF_PYTHON = "Fatal Python error: init"  # how it ends when Ctrl-C comes while it starts itself
LIMIT = 15.0  # what a loaded machine takes to end in good order
BEGIN_LIMIT = 120.0
RUN_LIMIT = 240.0
TRIALS = 1000  # more than any start has time for
FEW_TRIALS = 24

Mode: TypeAlias = Literal["run", "kill", "worker"]


@dataclass
class Sent:
    """One signal, and what came of it."""

    signal: str
    after: float
    status: int | None
    seconds: float
    failures: list[str] = field(default_factory=list)


def interrupt(config: Path, number: signal.Signals, after: float) -> Sent:
    """Send the signal to a run that began so many seconds ago."""
    command = [sys.executable, "-m", "prunetune", "run", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    if process.poll() is not None:
        printed, complaint = process.communicate()
        return Sent(number.name, after, process.returncode, 0.0, [f"it was over before: {complaint or printed}"])
    process.send_signal(number)
    sent = time.monotonic()
    try:
        _, complaint = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, complaint = process.communicate()
        return Sent(number.name, after, None, LIMIT, [f"it did not end: {complaint}"])
    found = Sent(number.name, after, process.returncode, time.monotonic() - sent)
    bare = after < BARE_SECONDS and (process.returncode == -number or complaint.startswith(OF_PYTHON))
    if not bare and process.returncode != 128 + number:
        found.failures.append(f"its status is {process.returncode}: {complaint}")
    if not bare and len(complaint.splitlines()) > 2:  # an empty line, and a sentence
        found.failures.append(f"it said: {complaint}")
    return found


def start_with_workers(config: Path) -> subprocess.Popen[str]:
    """A run, and some processes that it starts."""
    command = [sys.executable, "-m", "prunetune", "run", str(config), "--workers", str(WORKERS + 1)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def stop_worker(config: Path, after: float) -> Sent:
    """Send SIGTERM to a worker of a run so many seconds after it has begun; wait for the end of the run."""
    process = start_with_workers(config)
    try:
        begun = _wait(lambda: len(children(process.pid)) >= WORKERS, BEGIN_LIMIT)
        time.sleep(after)
        workers = children(process.pid)
        if not begun or not workers:
            return Sent("SIGTERM", after, process.poll(), 0.0, ["there was no worker any more"])
        os.kill(workers[0], signal.SIGTERM)
        sent = time.monotonic()
        _wait(lambda: not alive(workers[:1]), 2 * LIMIT)
        found = Sent("SIGTERM", after, None, time.monotonic() - sent)
        if found.seconds > LIMIT:
            found.failures.append("the worker did not end")
        _, complaint = process.communicate(timeout=RUN_LIMIT)
        found.status = process.returncode
        if found.status:
            found.failures.append(f"the run failed: {complaint}")
    except subprocess.TimeoutExpired:
        found.failures.append(f"the run did not end in {RUN_LIMIT:.0f} s")
    finally:
        process.kill()
        process.communicate()
    return found


def kill_owner(config: Path, after: float) -> Sent:
    """Kill a run with workers so many seconds after its last worker has begun; wait until all have gone."""
    process = start_with_workers(config)
    try:
        begun = _wait(lambda: len(children(process.pid)) >= WORKERS, BEGIN_LIMIT)
        time.sleep(after)
        workers = children(process.pid)
    finally:
        process.kill()
        _, complaint = process.communicate()
    killed = time.monotonic()
    found = Sent("SIGKILL", after, process.returncode, 0.0)
    if not begun or len(workers) < WORKERS:
        found.failures.append(f"it had {len(workers)} workers: {complaint}")
    _wait(lambda: not alive(workers), 2 * Heartbeat().beat)
    found.seconds = time.monotonic() - killed
    if found.seconds > Heartbeat().beat:
        found.failures.append(f"processes {alive(workers)} of {workers} were there after {found.seconds:.1f} s")
    return found


def children(parent: int) -> list[int]:
    """The processes that this one has started and that run."""
    return [pid for pid, its_parent in _processes() if its_parent == parent]


def alive(processes: Sequence[int]) -> list[int]:
    """Those that run."""
    return [pid for pid, _ in _processes() if pid in processes]


def _processes() -> list[tuple[int, int]]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [(int(pid), int(parent)) for pid, parent, state, *_ in rows if not state.startswith("Z")]


def _wait(fulfilled: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := fulfilled()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


def run(count: int, *, within: float = 10.0, mode: Mode = "run", seed: int = 0) -> list[Sent]:
    """Do the drill; every signal that was sent, with what was wrong about it."""
    rng = random.Random(seed)
    found = []
    with tempfile.TemporaryDirectory() as name:
        for place in range(count):
            folder = f"{name}/run-{place}" if mode == "worker" else f"{name}/run"
            config = Path(name) / "config.toml"
            trials = FEW_TRIALS if mode == "worker" else TRIALS
            config.write_text(CONFIG.replace("FOLDER", folder).replace("TRIALS", str(trials)))
            after = rng.uniform(0, within)
            number = (signal.SIGINT, signal.SIGTERM)[place % 2]
            if mode == "run":
                sent = interrupt(config, number, after)
            else:
                sent = (kill_owner if mode == "kill" else stop_worker)(config, after)
            print(f"{sent.signal} after {after:.2f} s: status {sent.status} in {sent.seconds:.1f} s", flush=True)
            for failure in sent.failures:
                print("WRONG:", failure, flush=True)
            found.append(sent)
    return found
