"""Where studies are kept, by URL: SQLite, PostgreSQL, MySQL, Optuna's journal file and its gRPC proxy."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import sqlite3
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from prunetune.backends.study.attributes import OWNER
from prunetune.backends.study.heartbeat import this_process
from prunetune.backends.study.journal_lock import JournalLock
from prunetune.backends.study.retrying_storage import PATIENCE_SECONDS, UNREADABLE, PatientStorage
from prunetune.errors import InputError, StorageError
from prunetune.events import Observer, silent

LOCK_SECONDS: Final = 10  # how long SQLite waits for another reader or writer before anything is said
CONNECT_SECONDS: Final = 10
OPEN_ATTEMPTS: Final = 12  # of processes that make the tables of an empty database at the same moment
OPEN_SECONDS: Final = 15.0  # after which one that is locked is so for another reason

_SHORT: Final = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_DRIVERS: Final = {"psycopg": "postgresql", "pymysql": "mysql", "grpc": "grpc"}  # module: the extra that brings it
_LIBPQ: Final = {"connect_timeout": CONNECT_SECONDS, "keepalives_idle": 30, "tcp_user_timeout": 60_000}
_CONNECT_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": {"connect_timeout": CONNECT_SECONDS, "read_timeout": 60, "write_timeout": 60},
}
KINDS: Final = (
    "sqlite:///FILE, postgresql://USER@HOST/NAME, mysql://USER@HOST/NAME, journal:///FILE or grpc://HOST:PORT"
)

Opener = Callable[[str], "contextlib.AbstractContextManager[BaseStorage]"]


@contextlib.contextmanager
def connected(url: str, *, observer: Observer = silent, patience: float = PATIENCE_SECONDS) -> Iterator[BaseStorage]:
    """The storage at ``url``, closed when the block ends; one that goes away meanwhile is waited for.

    ``observer`` hears of it when there is something to wait for, which is for at most ``patience`` seconds.

    Raises
    ------
    InputError
        ``url`` is of no known kind, or the package that it needs is not installed; the sentence says which.
    StorageError
        The storage cannot be opened.
    """
    url = absolute(url)
    shown = without_password(url)
    check_url(url)
    opener = _OPENERS.get(url.partition(":")[0], _database)
    with contextlib.ExitStack() as stack:
        try:
            storage = stack.enter_context(opener(url))
        except Exception as error:  # whatever a database, its driver or Optuna's check of the schema's version raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StorageError(f"cannot open the storage {shown}: {_hide(url, reason)}") from error
        signature = {OWNER: this_process()}
        yield PatientStorage(storage, shown, signature=signature, observer=observer, patience=patience)


def check_url(url: str) -> None:
    """Raise InputError unless ``url`` is of a known kind and the package that it needs is installed."""
    scheme = url.partition(":")[0]
    if scheme == "grpc":
        _check_driver("grpc", url)
        _host_and_port(url)
        return
    if scheme == "journal":
        if not _journal_path(url).name:
            raise InputError(f"the storage {url!r} names no file; write journal:///FILE")
        return
    try:
        parsed = database_url(url)
    except (ArgumentError, ValueError):
        raise InputError(f"the storage {without_password(url)!r} is no URL; write {KINDS}") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql", "mysql", "mariadb"}:
        raise InputError(f"the storage {without_password(url)} is of an unknown kind; write {KINDS}")
    driver = parsed.get_driver_name() if "+" in parsed.drivername else ""
    if driver in _DRIVERS:
        _check_driver(driver, url)


def database_url(url: str) -> URL:
    """The URL as SQLAlchemy has it, with the driver that our extras bring where none is named."""
    parsed = make_url(url)
    return parsed.set(drivername=_SHORT.get(parsed.drivername, parsed.drivername))


def absolute(url: str) -> str:
    """The URL with the whole path of its file, if it is one, so that it means the same wherever a process goes later.

    >>> absolute("journal:////data/log")
    'journal:////data/log'
    """
    if url.startswith("journal:"):
        return f"journal://{_journal_path(url)}" if _journal_path(url).name else url
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return url
    whole = str(Path(parsed.database).expanduser().absolute())
    return parsed.set(database=whole).render_as_string(hide_password=False)


def without_password(url: str) -> str:
    """The URL with asterisks for a password, to be shown and written down.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):  # it is not of SQLAlchemy's form
        head, at, tail = url.rpartition("@")
        return f"{head.partition('://')[0]}://***@{tail}" if at else url


def _hide(url: str, text: str) -> str:
    try:
        password = make_url(url).password
    except (ArgumentError, ValueError):
        return text
    return text.replace(str(password), "***") if password else text


def _check_driver(module: str, url: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"the storage {without_password(url)} needs the package {module}: "
            f"pip install 'prunetune[{_DRIVERS[module]}]'"
        )


@contextlib.contextmanager
def _database(url: str) -> Iterator[BaseStorage]:
    parsed = database_url(url)
    database = _make_tables(parsed)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite:
        _set_journal(database.engine, "WAL")
        event.listen(database.engine, "begin", _begin_immediately)
    try:
        yield get_storage(database)
    finally:
        database.remove_session()
        database.engine.dispose()
        if sqlite:
            _set_journal(database.engine, "DELETE")
            database.engine.dispose()


def _set_journal(engine: Engine, mode: str) -> None:
    """Write-ahead while the file is in use, which makes a commit ten times as fast; one plain file when it is closed.

    A commit is on the disk either way, also if the power goes (``synchronous`` is as it was, full). Where the mode
    cannot be changed, since others use the file or the file system has no shared memory, it stays as it is.
    """
    with contextlib.suppress(sqlite3.Error, SQLAlchemyError), contextlib.closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            cursor.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")
            cursor.close()


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": LOCK_SECONDS, "isolation_level": None}}
    options = _CONNECT_OPTIONS.get(url.get_driver_name(), {})
    return {"connect_args": options, "pool_pre_ping": True}  # a connection that idled through a long trial may be dead


def _begin_immediately(connection: Connection) -> None:
    """Lock SQLite's file before the first read of a transaction.

    Otherwise Python begins one at the first write, and between Optuna's look at a trial's state and its change another
    process can change it too: a waiting trial then runs twice, and a finished one is finished again.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _make_tables(url: URL) -> RDBStorage:
    """The database with Optuna's tables, tried again where another process is making the same tables just now.

    Optuna looks whether a table is there and then makes it, without a lock: of several processes that find an empty
    database all but one fail, and find everything made when they look again.
    """
    template = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
    latest = time.monotonic() + OPEN_SECONDS
    for attempt in range(OPEN_ATTEMPTS):
        database = RDBStorage.__new__(RDBStorage)  # apart, so that the engine of one that fails can be closed
        try:
            RDBStorage.__init__(database, template, engine_kwargs=_engine_options(url))
        except BaseException as error:
            if hasattr(database, "engine"):
                database.engine.dispose()
            if attempt == OPEN_ATTEMPTS - 1 or time.monotonic() > latest or not _may_be_a_race(error):
                raise
            time.sleep(random.uniform(0.05, 0.3))
        else:
            return database
    raise AssertionError("the last attempt returns or raises")


def _may_be_a_race(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, OperationalError):  # SQLite's for what others call a ProgrammingError, and many things more
        return "already exists" in str(cause) or "locked" in str(cause)
    return isinstance(cause, IntegrityError | ProgrammingError | AssertionError)


@contextlib.contextmanager
def _journal(url: str) -> Iterator[BaseStorage]:
    path = _journal_path(url)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    backend = _File(path)
    try:
        storage = _Journal(backend)
    except UNREADABLE:
        raise ValueError(f"line {backend.line} of the journal is damaged") from None
    yield storage


class _Journal(JournalStorage):
    """Optuna's, which can write down attributes together with what is written next: the disk is waited for once."""

    def __init__(self, file: _File) -> None:
        super().__init__(file)
        self._file = file

    def note_ending(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """User attributes of a trial whose state is set next.

        Where others have ended it meanwhile they are nothing to anyone who reads them, for they name no worker; the
        state, which does, is what fails then.
        """
        about = {"op_code": JournalOperation.SET_TRIAL_USER_ATTR, "worker_id": "", "trial_id": trial_id}
        self._file.later += [{**about, "user_attr": {name: value}} for name, value in attributes.items()]


class _File(JournalFileBackend):
    """Optuna's file of a journal, which knows at which line its reader is, with a lock of ours."""

    line = 0

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._held = JournalLock(path).held
        self.later: list[dict[str, Any]] = []
        """What is to be written before the next lines, and with them."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """What the lines after that many say."""
        self.line = log_number_from + 1
        for log in super().read_logs(log_number_from):
            yield log
            self.line += 1

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write a line for each, and wait until they are on the disk."""
        waiting = len(self.later)
        text = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in (*self.later[:waiting], *logs))
        with self._held(), self._path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        del self.later[:waiting]


def _journal_path(url: str) -> Path:
    """Absolute, so that it means the same wherever the process goes."""
    path = url.removeprefix("journal:").removeprefix("//")
    path = path[1:] if path.startswith("/~") else path
    return Path(path).expanduser().absolute() if path else Path("/")


@contextlib.contextmanager
def _proxy(url: str) -> Iterator[BaseStorage]:
    host, port = _host_and_port(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=port)
    try:
        proxy.wait_server_ready(timeout=CONNECT_SECONDS)
        yield proxy
    finally:
        proxy.close()


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise InputError(f"the storage {without_password(url)!r} must be of the form grpc://HOST:PORT")
    return host, port


_OPENERS: Final[dict[str, Opener]] = {"journal": _journal, "grpc": _proxy}
