"""Which running trials still have somebody who runs them: signs of life, and who misses them.

Optuna's heartbeats exist for databases inside ``optimize`` only, and compare the clock of a database with its entries.
Ours work in every storage and compare no clocks: whoever runs a trial counts up an attribute of it, and whoever sees
that count stand still for long enough, by a clock of his own, gives the trial up. A process of the same machine need
not be waited for: it is there or not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from prunetune.backends.study.attributes import BEAT, OWNER

JOIN_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life every ``beat`` seconds; a trial that shows none for ``stale`` seconds is given up."""

    beat: float = 10.0
    stale: float = 60.0


def this_process() -> dict[str, Any]:
    """Who runs a trial: ``pid`` means something in ``space`` only, and ``started`` tells apart who had it before."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "space": _space(), "pid": pid, "started": _start_of(pid)}


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the process is known to be gone. False for one of another machine, of which nothing is known."""
    if owner.get("space") != _space():
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, under another user
        pass
    return owner.get("started") != _start_of(pid)


def describe(owner: Mapping[str, Any]) -> str:
    """The process in words."""
    return f"process {owner['pid']} on {owner['host']}" if "pid" in owner and "host" in owner else "an unknown process"


def _space() -> str:
    """The boot of the machine and the container in it, where Linux says; else the machine's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str | None:
    """When the process started, in ticks since the boot; None where there is no /proc, "gone" for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "gone" if fields[0] in {"Z", "X"} else fields[19]


@contextlib.contextmanager
def beating(storage: BaseStorage, trial_id: int, heartbeat: Heartbeat) -> Iterator[None]:
    """While the block lasts a thread counts up the trial's attribute; one that the storage misses only comes later."""
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(heartbeat.beat):
            count += 1
            with contextlib.suppress(Exception):  # gone, or the trial was given up: the main thread will find out
                storage.set_trial_system_attr(trial_id, BEAT, count)
        storage.remove_session()  # a database's session is its thread's own

    thread = threading.Thread(target=beat, name="prunetune-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(JOIN_SECONDS)  # one that hangs in a connection without an answer is left to itself


@dataclass
class HeartbeatMonitor:
    """What one observer has seen of the running trials; ``clock`` is there to be replaced in tests."""

    heartbeat: Heartbeat
    clock: Callable[[], float] = time.monotonic
    _counts: dict[int, object] = field(default_factory=dict)
    _quiet: dict[int, float] = field(default_factory=dict)
    _looked: float | None = None

    def dead(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the ``running`` trials that nobody runs any more, as far as is known after this look.

        A pause between two looks counts for two beats at most. So a trial is given up after several looks only: had
        the storage been gone in between, its owner had the time to be heard again.
        """
        now = self.clock()
        passed = 0.0 if self._looked is None else min(now - self._looked, 2 * self.heartbeat.beat)
        self._looked = now
        quiet = {}
        for trial in running:
            count = trial.system_attrs.get(BEAT)
            known = trial.number in self._counts and self._counts[trial.number] == count
            quiet[trial.number] = self._quiet[trial.number] + passed if known else 0.0
            self._counts[trial.number] = count
        self._quiet = quiet
        return [trial for trial in running if quiet[trial.number] >= self.heartbeat.stale or _known_dead(trial)]


def _known_dead(trial: FrozenTrial) -> bool:
    owner = trial.system_attrs.get(OWNER)
    return isinstance(owner, dict) and is_dead(owner)
