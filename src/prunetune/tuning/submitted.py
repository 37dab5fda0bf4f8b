"""A worker in a process of an executor's: what is submitted, what it does there, and how it learns that the run ended.

Whoever runs it sends it a sign of life through the study (``SUBMITTED``), as workers do for their trials. It ends when
the sign says so, when another start of the run has taken its place, and when there is none for as long as a trial is
given up after.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import cloudpickle
import torch
from optuna.storages import BaseStorage

from prunetune._utils.interrupts import Interrupted, interruptible
from prunetune.backends.study.attributes import BEGUN, SUBMITTED
from prunetune.backends.study.heartbeat import Heartbeat, this_process
from prunetune.backends.study.storage import connected, without_password
from prunetune.errors import PrunetuneError, StorageError
from prunetune.events import Event, Observer, PhaseStarted, silent
from prunetune.registry import in_a_line

Join: TypeAlias = Callable[[Observer], int]
"""Joins the search and returns how many were trained, as ``work`` does."""

LOOK_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 30.0  # until a file system in common shows what the run has written
JOIN_SECONDS: Final = 5.0
ONE_EACH: Final = (
    "its process trains for this search already, and two trainings in one process share their random numbers and "
    "threads; give every worker a process of its own (dask: threads_per_worker=1)"
)
BRING: Final = "install there, or copy there, what they are made of"
UNREACHED: Final = (
    "workers must reach the run's study: put the run folder where they reach it, or give the search a storage that "
    "they reach, Search(storage=…)"
)

_busy = threading.Lock()  # one training a process


@dataclass(frozen=True)
class Submission:
    """All that one worker gets, as plain values; no two are equal, lest an executor take them for the same."""

    number: int
    token: str
    """Of this start of the run."""
    join: bytes = field(repr=False)
    """A ``Join`` as ``cloudpickle`` writes it: what is of ``__main__`` or of a notebook goes along by value."""
    storage: str = field(repr=False)
    study: str
    owner: dict[str, Any]
    workers: int
    threads: int
    """Those of the run's process, which its workers share where they are on its machine."""
    heartbeat: Heartbeat


@dataclass(frozen=True)
class Left:
    """How a worker ended: how many were trained there, and why it went if that was too early."""

    trained: int = 0
    why: str = ""


def serve(given: Submission) -> Left:
    """Work for the run that has submitted this, until there is nothing left to train or the run has ended."""
    if given.owner == this_process() or not _busy.acquire(blocking=False):
        return Left(why=ONE_EACH)
    threads = torch.get_num_threads()
    try:
        return _served(given)
    except StorageError as error:
        return Left(why=f"{error}; {UNREACHED}")
    except PrunetuneError as error:
        return Left(why=str(error))
    finally:
        torch.set_num_threads(threads)
        _busy.release()


def _served(given: Submission) -> Left:
    host, watch = _Signals(), _Watch(given)
    try:
        with host.taken(), _watched(given, host, watch):
            try:
                join: Join = cloudpickle.loads(given.join)
            except Exception as error:  # whatever importing a user's modules raises
                return Left(why=f"it cannot load the network and the train function ({in_a_line(error)}); {BRING}")
            return Left(join(watch))
    except KeyboardInterrupt as interrupt:
        return Left() if watch.over else Left(why=host.answered(interrupt))


class _Signals:
    """The signals of a worker's process: here they end what is trained, and then they mean what they meant before."""

    def __init__(self) -> None:
        self.main = threading.current_thread() is threading.main_thread()
        self._closed = threading.Lock()
        self._open = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C in the block end it by ``KeyboardInterrupt``, whatever handler for SIGTERM there was."""
        if not self.main:
            yield
            return
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            with interruptible(signal.SIGINT, signal.SIGTERM):
                self._open = True
                try:
                    yield
                finally:
                    with self._closed:
                        self._open = False
        finally:
            signal.signal(signal.SIGTERM, before)

    def send(self) -> None:
        """End the block from another thread, at whatever line it is; no other than a main thread hears it."""
        with self._closed:
            if self._open:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def answered(self, stopped: KeyboardInterrupt) -> str:
        """What stopped the block, in words, once the process has had its signal: SIGTERM may end it here."""
        if not isinstance(stopped, Interrupted) or stopped.number != signal.SIGTERM:
            return "it was stopped by Ctrl-C"
        signal.raise_signal(signal.SIGTERM)
        return "it was stopped by SIGTERM"


class _Watch:
    """The observer of a worker, which ends it at the next event when the run has ended, and shares the cores."""

    def __init__(self, given: Submission) -> None:
        self.over = False
        self._whole = torch.get_num_threads()
        here = given.owner["space"] == this_process()["space"]
        self._share = max(1, min(self._whole, given.threads // given.workers)) if here else self._whole

    def __call__(self, event: Event) -> None:
        if self.over:
            raise KeyboardInterrupt
        if isinstance(event, PhaseStarted):  # one that is trained alone has all cores
            torch.set_num_threads(self._whole if event.total == 1 else self._share)
        silent(event)


@contextlib.contextmanager
def _watched(given: Submission, host: _Signals, watch: _Watch) -> Iterator[None]:
    """A block in which a thread looks at the run's sign of life, and ends the worker when the run has ended."""
    ended = threading.Event()
    with connected(given.storage) as storage:
        study = _study(storage, given)
        storage.set_study_user_attr(study, f"{BEGUN}{given.number}", {"token": given.token, **this_process()})
        pulse = Pulse(given.token, given.heartbeat)

        def look() -> None:
            while not watch.over and not ended.wait(LOOK_SECONDS):
                with contextlib.suppress(Exception):  # one that the storage misses comes later
                    watch.over = pulse.is_over(storage.get_study_user_attrs(study).get(SUBMITTED))
            if watch.over:
                host.send()
            storage.remove_session()

        thread = threading.Thread(target=look, name="prunetune-run", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(JOIN_SECONDS)


def _study(storage: BaseStorage, given: Submission) -> int:
    """The study that the run has signed. Raises SearchError if it is not in what this process takes for its storage."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with contextlib.suppress(KeyError):
            study = storage.get_study_id_from_name(given.study)
            if SUBMITTED in storage.get_study_user_attrs(study):
                return study
        if time.monotonic() > deadline:
            raise StorageError(f"the run's study {given.study!r} is not in {without_password(given.storage)}")
        time.sleep(LOOK_SECONDS)


@dataclass
class Pulse:
    """What one worker has seen of the run's sign of life; ``clock`` is there to be replaced in tests.

    As ``HeartbeatMonitor`` does, it compares no two machines' clocks, and an hour between two looks counts for little.
    """

    token: str
    heartbeat: Heartbeat
    clock: Callable[[], float] = time.monotonic
    _count: object = None
    _quiet: float = 0.0
    _looked: float | None = None

    def is_over(self, said: Any) -> bool:
        """Whether the run has ended, by what its sign says now."""
        if not isinstance(said, dict) or said.get("token") != self.token or said.get("over"):
            return True
        now = self.clock()
        passed = 0.0 if self._looked is None else min(now - self._looked, 2 * self.heartbeat.beat)
        self._quiet = self._quiet + passed if said.get("count") == self._count else 0.0
        self._looked, self._count = now, said.get("count")
        return self._quiet >= self.heartbeat.stale
