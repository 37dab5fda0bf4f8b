"""Storages by URL, and what happens when one is locked, full, cut off, gone and back: each on the real thing."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.storages._grpc.server import make_server
from sqlalchemy.exc import OperationalError

from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.retrying_storage import PatientStorage
from prunetune.backends.study.storage import check_url, connected, without_password
from prunetune.backends.study.study import finished_trials, open_study
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError, StorageError
from prunetune.events import Event, Notice
from tiny_study import SETTINGS, score, search

pytestmark = pytest.mark.filterwarnings("error")

# URLs


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://host", "the storage redis://host is of an unknown kind; write sqlite:///FILE, postgresql://"),
        ("study.db", "the storage 'study.db' is no URL; write sqlite:///FILE"),
        ("journal:", "names no file; write journal:///FILE"),
        ("grpc://host", "must be of the form grpc://HOST:PORT"),
        ("grpc://host:port", "must be of the form grpc://HOST:PORT"),
    ],
)
def test_a_url_of_no_known_kind_is_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        check_url(url)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "postgresql://me:secret@host/db",
            "me:***@host/db needs the package psycopg: pip install 'prunetune[postgresql]'",
        ),
        ("postgres://host/db", "needs the package psycopg: pip"),
        (
            "mysql://me:secret@host/db",
            "mysql://me:***@host/db needs the package pymysql: pip install 'prunetune[mysql]'",
        ),
        ("grpc://host:13000", "grpc://host:13000 needs the package grpc: pip install 'prunetune[grpc]'"),
    ],
)
def test_a_missing_driver_is_one_sentence(url: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_url(url)  # they are there in the tests
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        check_url(url)
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)


def test_passwords_are_not_shown_whatever_is_in_them() -> None:
    assert without_password("postgresql://me:se%40cret@host:5/db") == "postgresql://me:***@host:5/db"
    assert without_password("grpc://me:secret@host:1") == "grpc://me:***@host:1"
    assert without_password("mysql://me:secret@host:port/db") == "mysql://***@host:port/db"


def test_nobody_there_is_one_sentence_without_the_password() -> None:
    with socket.socket() as taken:  # bound, and not listening: refused
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://me:secret@127.0.0.1:{taken.getsockname()[1]}/db"
        with pytest.raises(StorageError, match="cannot open the storage postgresql://me:") as caught, connected(url):
            pass
    assert "refused" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Optuna's gRPC proxy


@contextlib.contextmanager
def proxy(folder: Path, port: int) -> Iterator[None]:
    storage = RDBStorage(f"sqlite:///{folder}/behind.db")
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("ignore")
        server = make_server(storage, "localhost", port, pool)
        server.start()
        try:
            yield
        finally:
            server.stop(None).wait()
            pool.submit(storage.remove_session).result()
    storage.engine.dispose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def test_a_proxy_gives_the_trials_that_sqlite_gives_also_when_it_was_gone(tmp_path: Path) -> None:
    port = free_port()
    notices: list[str] = []
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(proxy(tmp_path, port))
        study = stack.enter_context(
            open_study(f"grpc://localhost:{port}", "search", SETTINGS, observer=noting(notices))
        )
        run_trials(study, score, SETTINGS, n_trials=2)
        first.close()
        starter = threading.Timer(2.0, lambda: stack.enter_context(proxy(tmp_path, port)))
        starter.start()
        run_trials(study, score, SETTINGS, n_trials=4)
        starter.join()
        points = [trial.params for trial in study.trials]
    assert points == search(f"sqlite:///{tmp_path}/a.db", 4)
    assert "cannot be used (" in notices[0]
    assert "is back after" in notices[1]


# A SQLite file that others use


def noting(notices: list[str]) -> Any:
    def observe(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    return observe


def test_a_locked_database_is_waited_for_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunetune.backends.study.storage.LOCK_SECONDS", 0.2)
    notices: list[str] = []
    url = f"sqlite:///{tmp_path}/s.db"
    with open_study(url, "search", SETTINGS, observer=noting(notices)) as study, holding(tmp_path / "s.db") as release:
        threading.Timer(2.5, release).start()
        run_trials(study, score, SETTINGS, n_trials=2)
        assert len(study.trials) == 2
    assert notices[0] == f"the storage {url} cannot be used (database is locked); trying for 600 s"
    assert notices[1].startswith(f"the storage {url} is back after ")


def test_one_that_is_locked_when_it_is_opened_is_soon_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunetune.backends.study.storage.LOCK_SECONDS", 0.4)
    monkeypatch.setattr("prunetune.backends.study.storage.OPEN_SECONDS", 0.6)
    search(f"sqlite:///{tmp_path}/s.db", 1)
    begun = time.monotonic()
    with (
        holding(tmp_path / "s.db"),
        pytest.raises(StorageError, match=r"cannot open the storage .*database is locked"),
        open_study(f"sqlite:///{tmp_path}/s.db", "search", SETTINGS),
    ):
        pass
    assert time.monotonic() - begun < 4  # the lock is waited for twice, not twelve times


class Full:
    """As SQLAlchemy has SQLite's error, three times."""

    def __init__(self) -> None:
        self.attempts = 0

    def get_all_studies(self) -> list[Any]:
        self.attempts += 1
        if self.attempts > 3:
            return []
        cause = sqlite3.OperationalError("database or disk is full")
        cause.sqlite_errorname = "SQLITE_FULL"
        raise OperationalError("INSERT", {}, cause)


@pytest.mark.parametrize("threads", [0, 1])
def test_it_is_said_for_what_and_how_long_whatever_thread_the_search_is_in(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunetune.backends.study.retrying_storage.SAY_AFTER", 0.1)
    notices: list[str] = []

    def run() -> None:
        PatientStorage(Full(), "db", signature={}, observer=noting(notices), patience=600.0).get_all_studies()  # type: ignore[arg-type]

    if threads:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(run).result()
    else:
        run()
    assert notices[0] == "the storage db cannot be used (database or disk is full); trying for 600 s"
    assert notices[1].startswith("the storage db is back after ")
    assert len(notices) == 2


def test_a_heartbeat_that_waits_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunetune.backends.study.retrying_storage.SAY_AFTER", 0.1)
    notices: list[str] = []
    storage = PatientStorage(Full(), "db", signature={}, observer=noting(notices), patience=600.0)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(storage.get_all_studies).result() == []
    assert notices == []


def test_what_is_queued_is_queued_once_though_the_answer_is_lost(tmp_path: Path) -> None:
    """The storage has made the trial, and the connection ends before it says so."""
    with open_study(f"sqlite:///{tmp_path}/s.db", "search", SETTINGS) as study:
        real, attempts = study._storage._storage, []  # type: ignore[attr-defined]
        make = real.create_new_trial

        def unheard(study_id: int, template: Any = None) -> int:
            attempts.append(make(study_id, template))
            if len(attempts) == 1:
                raise ConnectionError("gone")
            return int(attempts[-1])

        with pytest.MonkeyPatch.context() as monkey:
            monkey.setattr(real, "create_new_trial", unheard)
            study.enqueue_trial({"x": 0.5}, user_attrs={"note": "a"})
        assert [trial.user_attrs for trial in study.trials] == [{"note": "a"}]
        study.enqueue_trial({"x": 0.5}, user_attrs={"note": "a"})  # and twice, who wants it twice
        run_trials(study, score, SETTINGS, n_trials=3)
        assert [trial.params["x"] for trial in study.trials][:2] == [0.5, 0.5]
        assert study.trials[2].params["x"] != 0.5


def test_one_that_stays_locked_is_an_error_that_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunetune.backends.study.storage.LOCK_SECONDS", 0.1)
    url, locks = f"sqlite:///{tmp_path}/s.db", contextlib.ExitStack()

    def locked_in_the_middle(params: dict[str, Any], report: Report) -> float:
        if report.number == 2:
            locks.enter_context(holding(tmp_path / "s.db"))
            with contextlib.suppress(Exception):  # what careless train functions do
                report(0.5, 1)
        return float(params["x"])

    with (
        pytest.raises(
            StorageError, match=r"cannot be used \(database is locked\), for \d s now; what is finished is kept"
        ),
        locks,
        open_study(url, "search", SETTINGS, patience=1.0) as study,
    ):
        run_trials(study, locked_in_the_middle, SETTINGS, n_trials=4)
    with open_study(url, "search", SETTINGS) as study:
        assert len(finished_trials(study)) == 2


@contextlib.contextmanager
def holding(path: Path) -> Iterator[Any]:
    """The file locked by another connection until the function that this yields is called, or the block ends."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")

    def release() -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):
            connection.close()

    try:
        yield release
    finally:
        release()


_FULL = """
import os, resource, sys, threading
from test_storage import SETTINGS, noting, score
from prunetune.backends.study import storage
from prunetune.backends.study.attributes import GIVEN_UP
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import finished_trials, open_study
from prunetune.errors import StorageError

url, patience, relief = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def full(params, report):
    if report.number == 2:  # every write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
        threading.Timer(relief, free).start()
    return score(params, report)

def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

notices = []
try:
    with open_study(url, "search", SETTINGS, observer=noting(notices), patience=patience) as study:
        run_trials(study, full, SETTINGS, n_trials=30)
        print(len(finished_trials(study)))
except StorageError as error:
    print(error)
print(*notices, sep="\\n")
"""


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_full_disk_is_waited_for_and_then_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    url = f"sqlite:///{path}" if kind == "sqlite" else f"journal://{path}"
    said = with_full_disk(url, patience=60, relief=2)
    assert said[0] == "30"
    assert len(said) == 3
    assert "cannot be used (" in said[1]
    assert "is back after" in said[2]
    path.unlink()
    said = with_full_disk(url, patience=0.5, relief=4)
    assert "what is finished is kept, so start again when it is back" in said[0]
    with open_study(url, "search", SETTINGS) as study:
        kept = len(finished_trials(study))
    assert 2 <= kept < 30
    assert len(search(url, 31)) >= 31


def with_full_disk(url: str, patience: float, relief: float) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, url, str(patience), str(relief)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Another version


def test_a_study_of_another_format_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with open_study(url, "search", SETTINGS) as study:
        study.set_user_attr("prunetune", {**study.user_attrs["prunetune"], "format": 2})
    with pytest.raises(
        SearchError, match="is of format 2, and this prunetune reads and writes format 1: take the same"
    ):
        search(url, 1)


def test_a_database_of_another_optuna_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    search(url, 1)
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    database.close()
    with pytest.raises(StorageError, match="cannot open the storage .*is no longer compatible with the table schema"):
        search(url, 1)


# Many at the same moment


def start_together(url: str, count: int) -> list[int]:
    """The exit codes of ``count`` processes that open one study at the same moment, and run a trial each."""
    fork = multiprocessing.get_context("fork")
    gate = fork.Barrier(count)

    def start() -> None:
        gate.wait()
        with open_study(url, "search", SETTINGS) as study:
            run_trials(study, score, SETTINGS, n_trials=count)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        processes = [fork.Process(target=start) for _ in range(count)]
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]


@pytest.mark.parametrize("url", ["sqlite:///{}/s.db", "journal://{}/j.log"])
def test_many_may_be_the_first_on_an_empty_storage(url: str, tmp_path: Path) -> None:
    """Of 12 that let Optuna make the tables 4 crashed."""
    assert start_together(url.format(tmp_path), 8) == [0] * 8
    with open_study(url.format(tmp_path), "search", SETTINGS) as study:
        assert len(finished_trials(study)) == 8
        assert len(optuna.get_all_study_names(study._storage)) == 1


def _journal_mode(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return str(mode)


def test_commits_are_written_ahead_while_a_file_is_in_use_and_it_is_one_plain_file_afterwards(tmp_path: Path) -> None:
    """A commit is synchronised once, not three times, and no less: 2 is "full"."""
    file = tmp_path / "s.db"
    url = f"sqlite:///{file}"
    with open_study(url, "search", SETTINGS) as study:
        assert _journal_mode(file) == "wal"
        database: Any = study._storage  # a patient one, around Optuna's cache, around the database
        with database._storage._backend.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10_000
        with open_study(url, "search", SETTINGS) as other:
            other.add_trial(optuna.create_trial(value=1.0))
        assert _journal_mode(file) == "wal"  # the first still has it open
        study.add_trial(optuna.create_trial(value=2.0))
        assert [trial.value for trial in study.trials] == [1.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["s.db"]
    assert _journal_mode(file) == "delete"
    file.chmod(0o444)
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (2,)
