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

from prunetune._utils.interrupts import uninterrupted
from prunetune.backends.study.heartbeat import is_dead, this_process

FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.5
GRACE_SECONDS: Final = 30.0  # for a holder of whom nothing is known, one of another machine say: Optuna's own rule
GRACE_SECONDS_UNNAMED: Final = 5.0  # for a lock without a name, of one that was killed before it wrote it


class _Held(NamedTuple):
    """A lock as it is on the disk. The inode alone says little: the next file may get the same."""

    inode: int
    modified: int
    holder: bytes

    def is_stale(self, seconds: float) -> bool:
        """Whether its holder is dead, or must be, since it has not changed for so long."""
        try:
            owner = json.loads(self.holder)
        except ValueError:  # somebody else's lock, or one that is being made just now
            owner = None
        if isinstance(owner, dict) and is_dead(owner):
            return True
        return seconds > (GRACE_SECONDS if self.holder else GRACE_SECONDS_UNNAMED)


class JournalLock:
    """The lock that Optuna's are, which they respect and which respects them, with its holder's name in it.

    Optuna waits half a minute for a holder that was killed. Here one of this machine is known to be dead at once. The
    next holder also mends the journal: it cuts off what one who died, or whose disk was full, left of a line. Left
    alone, the next line would be appended to that rest, and the file could not be read any more.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = Path(f"{journal}.lock")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock, and have it for the block, which a signal does not interrupt and which is to be short.

        Raises OSError where the journal is gone, or there is a lock that cannot be made or removed.
        """
        pause, seen, since = FIRST_PAUSE, None, time.monotonic()
        while True:
            with uninterrupted():
                mine = self._made()
                if mine is not None:
                    try:
                        _cut_last_line(self._journal)
                        yield
                    finally:
                        self._remove(mine)
                    return
            there = self._look()
            if there != seen:
                seen, since = there, time.monotonic()
            if there is not None and there.is_stale(time.monotonic() - since):
                self._remove(there)
                since = time.monotonic()
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _made(self) -> _Held | None:
        """Our lock; None if there is another."""
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        try:
            holder = _signature(os.getpid())
            os.write(descriptor, holder)
            told = os.fstat(descriptor)
            return _Held(told.st_ino, told.st_mtime_ns, holder)
        except BaseException:  # the disk is full
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _look(self) -> _Held | None:
        """The lock there is; None if it has just been released."""
        try:
            told = os.lstat(self._path)
        except FileNotFoundError:
            return None
        holder = b"?"  # Optuna's other lock is a link to the journal, and one of another user cannot be read perhaps
        if not self._path.is_symlink():
            with contextlib.suppress(OSError):
                holder = self._path.read_bytes()
        return _Held(told.st_ino, told.st_mtime_ns, holder)

    def _remove(self, lock: _Held) -> None:
        """Remove the lock if it still is that one; whoever finds the same one dead waits, and finds another then."""
        with self._alone():
            if self._look() == lock:
                self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of this machine is in such a block for the same lock, where the file system can tell."""
        import fcntl  # not on Windows, where importing this module must work all the same

        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield


@cache
def _signature(pid: int) -> bytes:
    """Who holds a lock; ``pid`` is this process, which may have been forked."""
    assert pid == os.getpid()
    return json.dumps(this_process()).encode()


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
