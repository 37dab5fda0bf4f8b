"""The lock of a journal: a file beside it, in which its holder says who it is, so that nobody waits for the dead."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from optuna.storages.journal import JournalFileOpenLock

from prunetune._utils.interrupts import uninterrupted
from prunetune.backends.study.heartbeat import is_dead, this_process

FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.5
GRACE_SECONDS: Final = 30.0  # for a holder of whom nothing is known, one of another machine say: Optuna's own rule


class _Held(NamedTuple):
    """A lock as it is on the disk. The inode alone says little: the next file may get the same."""

    inode: int
    modified: int
    holder: bytes


class JournalLock(JournalFileOpenLock):
    """Optuna's lock, which Optuna respects and which respects Optuna's, with its holder's name in it.

    Optuna waits half a minute for a holder that was killed. Here one of this machine is known to be dead at once. The
    next holder also mends the journal: it cuts off what one who died, or whose disk was full, left of a line. Left
    alone, the next line would be appended to that rest, and the file could not be read any more.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._path = Path(f"{journal}.lock")
        self._mine: _Held | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and mend the journal."""
        pause, seen, since = FIRST_PAUSE, None, time.monotonic()
        while not self._made():
            held = self._look()
            if held != seen:
                seen, since = held, time.monotonic()
            if held is not None and (_has_died(held) or time.monotonic() - since > GRACE_SECONDS):
                self._remove(held)
                continue
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        try:
            _cut_last_line(self._journal)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Let others write. Where somebody took this process for dead, the lock is that one's, and stays."""
        if self._mine is not None:
            self._remove(self._mine)
            self._mine = None

    def _made(self) -> bool:
        with uninterrupted():
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            try:
                holder = _signature(os.getpid())
                os.write(descriptor, holder)
                told = os.fstat(descriptor)
                self._mine = _Held(told.st_ino, told.st_mtime_ns, holder)
            finally:
                os.close(descriptor)
        return True

    def _look(self) -> _Held | None:
        """The lock there is; None if it has just been released."""
        with contextlib.suppress(OSError):
            told = os.lstat(self._path)
            # Optuna's other lock is a link to the journal, which says nothing of its holder
            holder = b"" if self._path.is_symlink() else self._path.read_bytes()
            return _Held(told.st_ino, told.st_mtime_ns, holder)
        return None

    def _remove(self, held: _Held) -> None:
        """Remove the lock if it still is that one; whoever finds the same one dead waits, and finds another then."""
        with contextlib.suppress(OSError), _alone(self._journal):
            if self._look() == held:
                self._path.unlink()


@contextlib.contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """No other process of this machine is in such a block, so that what one sees of the lock stays so."""
    import fcntl  # not on Windows, where importing this module must work all the same

    with journal.open("rb") as file:  # which is also the end of it
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


@cache
def _signature(pid: int) -> bytes:
    """Who holds a lock; ``pid`` is this process, which may have been forked."""
    assert pid == os.getpid()
    return json.dumps(this_process()).encode()


def _has_died(held: _Held) -> bool:
    try:
        owner = json.loads(held.holder)
    except ValueError:  # somebody else's lock, or one that is being made just now
        return False
    return isinstance(owner, dict) and is_dead(owner)


def _cut_last_line(journal: Path) -> None:
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
