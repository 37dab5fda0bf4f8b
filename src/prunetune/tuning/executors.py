"""Workers that an executor runs, whoever's cluster it is: they begin with the rungs and end with the run."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self

import cloudpickle
import torch
from optuna.storages import BaseStorage

from prunetune._utils.checks import whole_number
from prunetune.backends.given import Given, optimizer_name, trial_pruner_name
from prunetune.backends.study.attributes import BEGUN, SUBMITTED
from prunetune.backends.study.heartbeat import Heartbeat, this_process
from prunetune.backends.study.storage import connected
from prunetune.errors import InputError, StorageError
from prunetune.events import Event, Notice, Observer, PhaseStarted
from prunetune.record.folder import RunFolder
from prunetune.registry import in_a_line
from prunetune.tuning.fingerprint import Resume
from prunetune.tuning.settings import Search
from prunetune.tuning.submitted import Join, Left, Submission, serve
from prunetune.tuning.types import GivenModelFunction, TrainFunction
from prunetune.tuning.worker import work

SHARED: Final = ("search", "climb", "confirm")
"""The phases that workers take part in."""
LOOK_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 20.0  # to record the trial that a worker is in
SPAWN: Final = "mp_context=multiprocessing.get_context('spawn')"


class Future(Protocol):
    """What an executor returns: as much of ``concurrent.futures.Future`` as submitit and dask have, too."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Any:
        """What came of it; raises what it raised."""

    def cancel(self) -> Any:
        """Take it back if it has not begun."""


class Executor(Protocol):
    """What runs a function in a process somewhere: a process pool, dask's ``Client``, submitit's ``AutoExecutor``."""

    def submit(self, function: Callable[[Submission], Left], given: Submission, /) -> Future:
        """Run ``function(given)``, now or later."""


def check_executor(workers: object, n_workers: object, search: Search) -> int:
    """How many workers are asked for, 0 without an executor. Raises InputError for what cannot work."""
    if workers is None:
        if n_workers is not None:
            raise InputError(
                f"n_workers is {n_workers!r}, but there is nothing that could run them; give an executor, "
                "workers=dask_client, or start workers yourself with prunetune.work"
            )
        return 0
    kind = type(workers).__name__
    if isinstance(workers, type) or not callable(getattr(workers, "submit", None)):
        raise InputError(
            f"workers is {workers!r}, but it must be an executor, an object with the submit of concurrent.futures; how "
            "many are wanted is n_workers"
        )
    if n_workers is None:
        raise InputError(f"workers is a {kind}, and how many workers it is to run is not said; give n_workers=4, say")
    if isinstance(workers, ThreadPoolExecutor):
        raise InputError(
            "workers is a ThreadPoolExecutor, and trainings in one process share their random numbers and threads; "
            f"take concurrent.futures.ProcessPoolExecutor({n_workers}, {SPAWN})"
        )
    context = getattr(workers, "_mp_context", None) if isinstance(workers, ProcessPoolExecutor) else None
    if context is not None and context.get_start_method() == "fork":
        raise InputError(
            f"workers is a {kind} whose processes are forks of this one, in which neither torch's threads nor CUDA "
            f"work; make it with {SPAWN}"
        )
    named = {"optimizer": optimizer_name(search.optimizer), "trial_pruner": trial_pruner_name(search.trial_pruner)}
    for option, name in named.items():
        if isinstance(name, Given):
            raise InputError(f"search.{option} is an {name}, which only this process has; workers need one by its name")
    return whole_number("n_workers", n_workers, minimum=1)


def submitted_workers(
    executor: Executor,
    count: int,
    model_fn: GivenModelFunction,
    train: TrainFunction,
    search: Search,
    folder: RunFolder,
    resume: Resume,
    observer: Observer,
) -> SubmittedWorkers:
    """The workers of a run of ``tune``. Raises InputError if what they train cannot leave this process."""
    url, study = search.storage or folder.storage, search.study_name(folder.path)
    join: Join = partial(_join, model_fn, train, url, study, resume)
    try:
        sent = cloudpickle.dumps(join)
    except Exception as error:  # whatever a user's objects raise
        raise InputError(
            f"model_fn and train cannot be sent to workers ({in_a_line(error)}); build in the train function what "
            "cannot be pickled, and open files there"
        ) from error
    return SubmittedWorkers(executor, count, sent, url, study, observer)


def _join(
    model_fn: GivenModelFunction, train: TrainFunction, url: str, study: str, resume: Resume, observer: Observer
) -> int:
    return work(model_fn, train, url, study=study, resume=resume, observer=observer)


class SubmittedWorkers:
    """Hands everything on to ``observer``, and has ``count`` workers in ``executor`` while several are trained.

    As long as any of them is there they train, and this process looks on: it may be on a machine without a GPU. When
    all are lost, or the executor takes none, it trains by itself. ``join`` is a pickled ``Join``.
    """

    def __init__(
        self,
        executor: Executor,
        count: int,
        join: bytes,
        url: str,
        study: str,
        observer: Observer,
    ) -> None:
        self._executor = executor
        self._count = count
        self._observer = observer
        self._stack = contextlib.ExitStack()
        self._storage: BaseStorage | None = None
        self._given = Submission(
            0, uuid.uuid4().hex, join, url, study, this_process(), count, torch.get_num_threads(), Heartbeat()
        )
        self._futures: dict[int, Future] = {}
        self._begun = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def __call__(self, event: Event) -> None:
        """Hand ``event`` on, and submit workers or let them go."""
        if isinstance(event, PhaseStarted):
            if event.phase not in SHARED:
                self._end()
            elif event.done < (event.total or 0):
                self._start()
        self._observer(event)

    def train(self) -> bool:
        """Whether there are workers, begun or waiting for their turn."""
        return any(not future.done() for future in [*self._futures.values()])

    def _start(self) -> None:
        """Submit as many workers as are wanted and not there, without those that were lost."""
        if self._thread is None:
            self._sign(0)
            self._over.clear()
            self._thread = threading.Thread(target=self._look, name="prunetune-workers", daemon=True)
            self._thread.start()
        self._tell_of_ended()
        for _ in range(self._count - self._lost - sum(not each.done() for each in [*self._futures.values()])):
            given = replace(self._given, number=self._begun + 1)
            try:
                future = self._executor.submit(serve, given)
            except Exception as error:  # whatever somebody's executor raises
                self._lost = self._count
                self._observer(Notice(f"the executor takes no workers ({in_a_line(error)}); {self._rest()}"))
                return
            self._begun += 1
            with self._lock:
                self._futures[given.number] = future

    def _sign(self, count: int, *, over: bool = False) -> None:
        """Write the sign of life that the workers look at."""
        if self._storage is None:
            self._storage = self._stack.enter_context(connected(self._given.storage, observer=self._observer))
        study = self._storage.get_study_id_from_name(self._given.study)
        said = {"token": self._given.token, "count": count, "over": over}
        self._storage.set_study_user_attr(study, SUBMITTED, said)

    def _look(self) -> None:
        """Until the end: sign, and tell at once of workers that are lost."""
        count, signed = 0, time.monotonic()
        while not self._over.wait(LOOK_SECONDS):
            self._tell_of_ended()
            if time.monotonic() - signed >= self._given.heartbeat.beat:
                count, signed = count + 1, time.monotonic()
                with contextlib.suppress(Exception):  # the storage is gone, of which the run tells
                    self._sign(count)
        assert self._storage is not None
        self._storage.remove_session()  # a database's session is its thread's own

    def _tell_of_ended(self) -> None:
        with self._lock:
            ended = [number for number, future in self._futures.items() if future.done()]
            whys = {number: _why(self._futures.pop(number)) for number in ended}
        lost = {number: why for number, why in whys.items() if why}
        self._lost += len(lost)
        for why in dict.fromkeys(lost.values()):
            whose = ", ".join(str(number) for number, each in lost.items() if each == why)
            self._observer(Notice(f"warning: worker {whose} has ended: {why}; {self._rest()}"))

    def _rest(self) -> str:
        return "the others go on" if self.train() else "this process trains by itself"

    def _end(self) -> None:
        """Tell the workers that this is the end, and wait until they have recorded what they were at."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join()
        self._thread, begun = None, set[int]()
        with contextlib.suppress(StorageError):
            self._sign(0, over=True)
            begun = self._begun_there()
        for number in {*self._futures} - begun:
            self._futures.pop(number).cancel()  # one that begins in this moment sees the sign
        latest = time.monotonic() + GRACE_SECONDS
        while self.train() and time.monotonic() < latest:
            time.sleep(LOOK_SECONDS / 10)
        self._tell_of_ended()
        for number, future in self._futures.items():
            self._observer(Notice(f"worker {number} has not ended in {GRACE_SECONDS:.0f} s, and is left alone"))
            future.cancel()
        self._futures.clear()
        self._storage = None
        self._stack.close()

    def _begun_there(self) -> set[int]:
        """The numbers of the workers that have come to their processes."""
        assert self._storage is not None
        said = self._storage.get_study_user_attrs(self._storage.get_study_id_from_name(self._given.study))
        token = self._given.token
        return {number for number in self._futures if said.get(f"{BEGUN}{number}", {}).get("token") == token}


def _why(future: Future) -> str:
    """Why a worker has ended too early; nothing if it has not."""
    try:
        left = future.result()
    except (CancelledError, Exception) as error:  # whatever somebody's executor raises for a process that is gone
        return in_a_line(error)
    return left.why if isinstance(left, Left) else ""
