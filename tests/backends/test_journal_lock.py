"""The lock of a journal, against Optuna's own two and against processes that are really killed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileOpenLock, JournalFileSymlinkLock

from prunetune.backends.study import journal_lock
from prunetune.backends.study.heartbeat import this_process
from prunetune.backends.study.journal_lock import JournalLock

OTHERS = {"a file of Optuna's": JournalFileOpenLock, "a link of Optuna's": JournalFileSymlinkLock}
HOLD = """
    import sys, time
    from pathlib import Path
    from prunetune.backends.study.journal_lock import JournalLock
    with JournalLock(Path(sys.argv[1])).held():
        print("held", flush=True)
        time.sleep(600)
"""
COUNT = """
    import sys
    from pathlib import Path
    from prunetune.backends.study.journal_lock import JournalLock
    path, lock = Path(sys.argv[1]), JournalLock(Path(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        with lock.held():
            text = path.read_text()
            path.write_text(f"{int(text or 0) + 1}\\n")
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


@pytest.mark.parametrize("maker", OTHERS)
def test_a_lock_that_somebody_holds_is_waited_for(maker: str, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = OTHERS[maker](str(journal))
    other.acquire()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 5:
            other.release()

    monkeypatch.setattr(journal_lock.time, "sleep", nap)
    with JournalLock(journal).held():
        assert len(naps) == 5
    assert files(journal) == ["study.log"]


@pytest.mark.parametrize("maker", OTHERS)
def test_optunas_locks_wait_for_ours(maker: str, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = OTHERS[maker](str(journal))
    naps: list[float] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(JournalLock(journal).held())

        def nap(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 5:
                stack.close()

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
    before = time.monotonic()
    with JournalLock(journal).held():
        assert time.monotonic() - before < journal_lock.GRACE_SECONDS / 2
        assert journal.read_text() == "{}\n"
    assert files(journal) == ["study.log"]


@pytest.mark.parametrize(
    ("holder", "grace"),
    [
        (b"", journal_lock.GRACE_SECONDS_UNNAMED),
        (b"?", journal_lock.GRACE_SECONDS),
        (b"[]", journal_lock.GRACE_SECONDS),
        (json.dumps({**this_process(), "space": "another machine", "pid": 1}).encode(), journal_lock.GRACE_SECONDS),
    ],
    ids=["nothing", "no JSON", "a list", "another machine"],
)
def test_the_lock_of_one_of_whom_nothing_is_known_is_taken_after_a_while(
    holder: bytes, grace: float, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (journal.parent / "study.log.lock").write_bytes(holder)
    clock(monkeypatch)
    with JournalLock(journal).held():
        assert grace < journal_lock.time.monotonic() < grace + 1
    assert files(journal) == ["study.log"]


def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One on which only naps take time."""
    now = 0.0

    def nap(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(journal_lock.time, "sleep", nap)
    monkeypatch.setattr(journal_lock.time, "monotonic", lambda: now)


def test_who_lost_the_lock_leaves_it_to_its_new_holder(journal: Path) -> None:
    lock = journal.parent / "study.log.lock"
    with JournalLock(journal).held():
        lock.unlink()
        lock.write_bytes(b"another's")
    assert lock.read_bytes() == b"another's"


def test_a_journal_that_is_gone_is_an_error_and_leaves_no_lock(journal: Path) -> None:
    journal.unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError), JournalLock(journal).held():
            pass
        assert files(journal) == []


def test_a_full_disk_leaves_no_lock(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_lock.os, "write", full)
    with pytest.raises(OSError, match="No space"), JournalLock(journal).held():
        pass
    assert files(journal) == ["study.log"]


def test_a_lock_that_cannot_be_removed_is_an_error(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder where everybody may remove his own files only."""
    (journal.parent / "study.log.lock").write_bytes(b"another's")
    clock(monkeypatch)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError), JournalLock(journal).held():
        pass


def test_a_file_system_that_knows_no_locks_has_this_one(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    for _ in range(2):
        with JournalLock(journal).held():
            assert len(files(journal)) == 2
        assert files(journal) == ["study.log"]


def test_interrupts_at_random_leave_no_lock(journal: Path) -> None:
    """Each comes into a loop that does nothing but write, and is answered by going on."""
    script = """
        import sys
        from pathlib import Path
        from prunetune.backends.study.storage import _File
        file = _File(Path(sys.argv[1]))
        print("ready", flush=True)
        done = 0
        while done < 40:
            try:
                while True:
                    file.append_logs([{"op_code": 99}])
            except KeyboardInterrupt:
                done += 1
                assert not Path(f"{sys.argv[1]}.lock").exists()
                print("interrupted", flush=True)
    """
    with started(script, journal) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for number in range(40):
            time.sleep(0.003 + 0.0003 * (number % 11))
            writer.send_signal(signal.SIGINT)
            assert writer.stdout.readline() == "interrupted\n"
        assert writer.wait() == 0


def test_two_processes_never_hold_it_at_once(journal: Path) -> None:
    """Each counts up what it reads; were they in there together, some would be lost. One that is killed loses one."""
    with contextlib.ExitStack() as stack:
        counters = [stack.enter_context(started(COUNT, journal, 150)) for _ in range(3)]
        killed = stack.enter_context(started(COUNT, journal, 10**9))
        time.sleep(1)
        killed.kill()
        assert [each.wait() for each in counters] == [0, 0, 0]
    assert int(journal.read_text()) >= 450
