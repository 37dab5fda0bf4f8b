"""The lock of a journal, against Optuna's own two and against processes that are really killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileOpenLock, JournalFileSymlinkLock

from prunetune.backends.study import journal_lock
from prunetune.backends.study.heartbeat import this_process
from prunetune.backends.study.journal_lock import JournalLock

MADE_BY: dict[str, Callable[[str], JournalFileOpenLock | JournalFileSymlinkLock]] = {
    "ours": lambda path: JournalLock(Path(path)),
    "a file of Optuna's": JournalFileOpenLock,
    "a link of Optuna's": JournalFileSymlinkLock,
}
HOLD = """
    import sys, time
    from pathlib import Path
    from prunetune.backends.study.journal_lock import JournalLock
    JournalLock(Path(sys.argv[1])).acquire()
    print("held", flush=True)
    time.sleep(600)
"""
COUNT = """
    import sys
    from pathlib import Path
    from prunetune.backends.study.journal_lock import JournalLock
    path, lock = Path(sys.argv[1]), JournalLock(Path(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        lock.acquire()
        text = path.read_text()
        path.write_text(f"{int(text or 0) + 1}\\n")
        lock.release()
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "study.log"
    path.touch()
    return path


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def files(journal: Path) -> list[str]:
    return sorted(path.name for path in journal.parent.iterdir())


@pytest.mark.parametrize("maker", MADE_BY)
def test_a_lock_that_somebody_holds_is_waited_for(maker: str, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, lock = MADE_BY[maker](str(journal)), JournalLock(journal)
    other.acquire()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 5:
            other.release()

    monkeypatch.setattr(journal_lock.time, "sleep", nap)
    lock.acquire()
    assert len(naps) == 5
    lock.release()
    assert files(journal) == ["study.log"]


@pytest.mark.parametrize("maker", [JournalFileOpenLock, JournalFileSymlinkLock])
def test_optunas_locks_wait_for_ours(
    maker: type[JournalFileOpenLock] | type[JournalFileSymlinkLock], journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, lock = maker(str(journal)), JournalLock(journal)
    lock.acquire()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 5:
            lock.release()

    monkeypatch.setattr("optuna.storages.journal._file.time.sleep", nap)
    other.acquire()
    assert len(naps) == 5
    other.release()
    assert files(journal) == ["study.log"]


def test_the_lock_of_one_that_was_killed_is_taken_at_once(journal: Path) -> None:
    """Optuna's is waited for for half a minute."""
    with started(HOLD, journal) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        journal.write_text("{}\nhalf a li")
        holder.kill()
    assert files(journal) == ["study.log", "study.log.lock"]
    lock, before = JournalLock(journal), time.monotonic()
    lock.acquire()
    assert time.monotonic() - before < journal_lock.GRACE_SECONDS / 2
    assert journal.read_text() == "{}\n"
    lock.release()
    assert files(journal) == ["study.log"]


@pytest.mark.parametrize(
    "holder",
    [b"", b"?", b"[]", json.dumps({**this_process(), "space": "another machine", "pid": 1}).encode()],
    ids=["nothing", "no JSON", "a list", "another machine"],
)
def test_the_lock_of_one_of_whom_nothing_is_known_is_taken_after_half_a_minute(
    holder: bytes, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (journal.parent / "study.log.lock").write_bytes(holder)
    now = 0.0

    def nap(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(journal_lock.time, "sleep", nap)
    monkeypatch.setattr(journal_lock.time, "monotonic", lambda: now)
    lock = JournalLock(journal)
    lock.acquire()
    assert journal_lock.GRACE_SECONDS < now < journal_lock.GRACE_SECONDS + 1
    lock.release()
    assert files(journal) == ["study.log"]


def test_who_lost_the_lock_leaves_it_to_its_new_holder(journal: Path) -> None:
    slow, quick = JournalLock(journal), JournalLock(journal)
    slow.acquire()
    (journal.parent / "study.log.lock").unlink()
    quick.acquire()
    slow.release()
    assert files(journal) == ["study.log", "study.log.lock"]
    quick.release()
    quick.release()
    assert files(journal) == ["study.log"]


def test_two_processes_never_hold_it_at_once(journal: Path) -> None:
    """Each counts up what it reads; were they in there together, some would be lost. One that is killed loses one."""
    with contextlib.ExitStack() as stack:
        counters = [stack.enter_context(started(COUNT, journal, 150)) for _ in range(3)]
        killed = stack.enter_context(started(COUNT, journal, 10**9))
        time.sleep(1)
        killed.kill()
        assert [each.wait() for each in counters] == [0, 0, 0]
    assert int(journal.read_text()) >= 450
