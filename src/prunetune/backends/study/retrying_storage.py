"""A storage that is waited for when it is gone, locked or full, so that an hour's training is not lost to a minute."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from prunetune._utils.interrupts import is_ending
from prunetune.backends.study.attributes import TOKEN
from prunetune.errors import StorageError
from prunetune.events import Notice, Observer

PATIENCE_SECONDS: Final = 600.0
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 10.0
LONGEST_NAP: Final = 0.5  # after which a signal is seen that came meanwhile
ENDING_SECONDS: Final = 5.0  # the patience of a process that a signal ends
SAY_AFTER: Final = 1.0  # locks of some moments are everyday, where several workers share a SQLite file

_PASSING_SQLITE: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
_PASSING_GRPC: Final = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED"}

_DAMAGED: Final = (StorageInternalError, SQLAlchemyError)  # what Optuna raises on contents that are not its own
UNREADABLE: Final = (*_DAMAGED, LookupError, ValueError, TypeError, AttributeError, AssertionError, RecursionError)

T = TypeVar("T")


class PatientStorage(BaseStorage):
    """``storage``, each of whose operations is tried again while what hinders it may pass.

    An operation may have been done although its answer was lost, and is then done a second time. Attributes, reports
    and parameters are the same afterwards; a trial that began twice has nobody who shows signs of life for it, and is
    given up like that of a dead worker; one that waits is known by a token; and one that is finished is looked at.

    ``signature`` are system attributes that every trial has which is started through this storage.

    Raises
    ------
    StorageError
        From any operation, after ``patience`` seconds. From then on operations are tried once, until one succeeds.
    """

    def __init__(
        self, storage: BaseStorage, name: str, *, signature: dict[str, Any], observer: Observer, patience: float
    ) -> None:
        self._storage = storage
        self._name = name
        self._signature = signature
        self._observer = observer
        self._patience = patience
        self._weary = False
        self._thread = threading.current_thread()  # that of the search: heartbeats wait, too, and are nobody's affair
        self._seen: dict[int, list[FrozenTrial]] | None = None

    @contextlib.contextmanager
    def read_once(self) -> Iterator[None]:
        """Until the block ends, the trials of a study are read again only after this process has written something.

        For readers in a row, each of which asks for all of them. What others write meanwhile is seen a little later.
        """
        self._seen = {}
        try:
            yield
        finally:
            self._seen = None

    def _write(self, operation: Callable[[], T]) -> T:
        try:
            return self._do(operation)
        finally:
            if self._seen is not None:
                self._seen = {}

    def _do(self, operation: Callable[[], T], damage: tuple[type[Exception], ...] = _DAMAGED) -> T:
        started, pause, said = time.monotonic(), FIRST_PAUSE, False
        while True:
            try:
                result = operation()
            except Exception as error:
                reason = passing_reason(error)
                if reason is None:
                    if isinstance(error, damage):
                        raise StorageError(f"the storage {self._name} is damaged ({_line(error)})") from error
                    raise
                waited = time.monotonic() - started
                if self._weary or waited >= self._patience_now():
                    self._weary = True
                    raise StorageError(
                        f"the storage {self._name} cannot be used ({reason}), for {waited:.0f} s now; what is finished "
                        "is kept, so start again when it is back"
                    ) from error
                if not said and (waited >= SAY_AFTER or pause > SAY_AFTER):
                    said = True
                    self._say(f"the storage {self._name} cannot be used ({reason}); trying for {self._patience:.0f} s")
            else:
                self._weary = False
                if said:
                    self._say(f"the storage {self._name} is back after {time.monotonic() - started:.0f} s")
                return result
            try:
                self._sleep(min(pause, self._patience) * random.uniform(0.5, 1.0))
            except BaseException:  # Ctrl-C while waiting: what is still to be recorded is tried once
                self._weary = True
                raise
            pause = min(pause * 2, LONGEST_PAUSE)

    def _patience_now(self) -> float:
        return min(self._patience, ENDING_SECONDS) if is_ending() else self._patience

    def _sleep(self, seconds: float) -> None:
        until, ending = time.monotonic() + seconds, is_ending()
        while (left := until - time.monotonic()) > 0 and is_ending() == ending:
            time.sleep(min(left, LONGEST_NAP))

    def _say(self, message: str) -> None:
        if threading.current_thread() is self._thread:
            self._observer(Notice(message))

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As the storage's."""
        return self._write(lambda: self._storage.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """As the storage's."""
        return self._do(lambda: self._storage.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """As the storage's."""
        return self._do(lambda: self._storage.get_study_name_from_id(study_id), UNREADABLE)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As the storage's."""
        return self._do(lambda: self._storage.get_study_directions(study_id), UNREADABLE)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """As the storage's."""
        return self._do(lambda: self._storage.get_study_user_attrs(study_id), UNREADABLE)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As the storage's."""
        return self._do(lambda: self._storage.get_study_system_attrs(study_id), UNREADABLE)

    def get_all_studies(self) -> list[Any]:
        """As the storage's."""
        return self._do(self._storage.get_all_studies, UNREADABLE)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As the storage's; a trial that begins here has our signature from the first moment on, one queued a token."""
        made = template_trial or create_trial(state=TrialState.RUNNING, system_attrs=self._signature)
        if made.state != TrialState.WAITING:
            return self._write(lambda: self._storage.create_new_trial(study_id, made))
        token = uuid.uuid4().hex
        queued = create_trial(
            state=made.state, user_attrs=made.user_attrs, system_attrs={**made.system_attrs, TOKEN: token}
        )
        attempts = itertools.count()

        def attempt() -> int:
            trials = self._storage.get_all_trials(study_id, deepcopy=False) if next(attempts) else ()
            there = (trial._trial_id for trial in trials if trial.system_attrs.get(TOKEN) == token)
            made_before = next(there, None)
            return self._storage.create_new_trial(study_id, queued) if made_before is None else made_before

        return self._write(attempt)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As the storage's; a trial that an attempt finished whose answer was lost is finished well."""
        attempts = itertools.count()

        def attempt() -> bool:
            first = next(attempts) == 0
            try:
                return self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if first or not _is_as_told(self._storage.get_trial(trial_id), state, values):
                    raise
                return True

        return self._write(attempt)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.set_trial_user_attr(trial_id, key, value))

    def note_ending(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """User attributes of a trial whose state is set next: a journal writes them down together with that."""
        if hasattr(self._storage, "note_ending"):
            self._storage.note_ending(trial_id, attributes)
            return
        for name, value in attributes.items():
            self.set_trial_user_attr(trial_id, name, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage's."""
        self._write(lambda: self._storage.set_trial_system_attr(trial_id, key, value))

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """As the storage's."""
        return self._do(lambda: self._storage.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As the storage's."""
        return self._do(lambda: self._storage.get_trial(trial_id), UNREADABLE)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As the storage's."""
        seen = self._seen
        if seen is None or deepcopy:
            return self._do(lambda: self._storage.get_all_trials(study_id, deepcopy, states), UNREADABLE)
        if study_id not in seen:
            seen[study_id] = self._do(lambda: self._storage.get_all_trials(study_id, deepcopy=False), UNREADABLE)
        return [trial for trial in seen[study_id] if states is None or trial.state in states]

    def remove_session(self) -> None:
        """As the storage's."""
        self._storage.remove_session()


def _is_as_told(trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> bool:
    return trial.state == state and (trial.values or []) == list(values or [])


def passing_reason(error: BaseException) -> str | None:
    """Why a storage failed, in a line, if that may pass (it is gone, locked or full); None for anything else."""
    for cause in (error, error.__cause__):
        if isinstance(cause, DBAPIError):
            sqlite = getattr(cause.orig, "sqlite_errorname", None)
            if sqlite is not None:
                return _line(cause.orig) if str(sqlite).startswith(_PASSING_SQLITE) else None
            passes = cause.connection_invalidated or isinstance(
                cause, OperationalError | InterfaceError | InternalError
            )
            return _line(cause.orig) if passes else None
        if isinstance(cause, OSError | PoolTimeoutError):
            return _line(cause)
        code = getattr(cause, "code", None)  # that of a grpc.RpcError, without importing grpc
        if type(cause).__module__.startswith("grpc") and callable(code) and code().name in _PASSING_GRPC:
            details = getattr(cause, "details", str)()
            return str(details or code().name).splitlines()[0]
    return None


def _line(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0].strip()
