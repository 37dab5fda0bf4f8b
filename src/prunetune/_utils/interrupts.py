"""Ctrl-C and SIGTERM: they end what runs at whatever moment they come, and wait for what must not be left half done.

Whatever a handler raises can get lost: Python drops it in finalisers and in callbacks from C, and an ``except:`` around
somebody's import swallows it. An ``Interrupted`` that is lost is raised again a moment later.

Imports nothing but the standard library, and little of that, so that a command can begin with it.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

PAUSE_SECONDS: Final = 0.05  # until what was lost is raised again: by then a finaliser is over
OWNER_SECONDS: Final = 1.0  # how often a worker looks whether its owner is there
GRACE_SECONDS: Final = 5.0  # for it to record what it was at when its owner has gone
OWNER: Final = "PRUNETUNE_OWNER"  # environment variable: the process that a worker is to end with
NOT_BEGUN: Final = "Stopped before anything was begun.\n"
_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The signal ``number`` came, and what runs is to end."""

    def __init__(self, number: int, watch: _Watch) -> None:
        super().__init__(f"signal {number}")
        self.number = number
        self._watch = watch

    def __del__(self) -> None:
        self._watch.lost(self.number)


class _Watch:
    """What is known of signals while an ``interruptible`` block lasts."""

    def __init__(self, before: dict[int, Any]) -> None:
        self.before = before
        self.came: int | None = None
        self.over = False
        self._pid = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a fork, a loader's worker say: its signals are not ours
            signal.signal(number, self.before[number])
            signal.raise_signal(number)
            return
        if _is_loading("torch"):  # nothing has begun, and its C++ code aborts where Python raises in it
            os.write(2, NOT_BEGUN.encode())
            os._exit(128 + number)
        self.came = number
        raise Interrupted(number, self)

    def lost(self, number: int) -> None:
        """An exception has nobody any more who could handle it."""
        if self.came is not None and not self.over and os.getpid() == self._pid:
            _thread.start_new_thread(self._send_again, (number,))

    def _send_again(self, number: int) -> None:
        time.sleep(PAUSE_SECONDS)
        if self.came is not None and not self.over:
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # also out of what it waits for


_watch: _Watch | None = None
_held: list[int] = []  # signals that wait for the end of an ``uninterrupted`` block


@contextlib.contextmanager
def interruptible(*numbers: int) -> Iterator[None]:
    """A signal of these in the block ends it by ``Interrupted``, whatever becomes of what is raised where it comes.

    What leaves the outermost block after Ctrl-C is a ``KeyboardInterrupt`` and no subclass of it, for only then does
    Python end a script as one that Ctrl-C has ended. Handlers of somebody's own, and signals that are ignored, stay as
    they are, and all are as before after the block. Blocks may be nested. Only in the main thread, for Python calls its
    handlers nowhere else.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outer, hook = _watch, sys.unraisablehook
    if outer is None:
        found = {number: signal.getsignal(number) for number in numbers}
        before = {n: old for n, old in found.items() if old in (signal.SIG_DFL, signal.default_int_handler)}
        _watch = _Watch(before)
        sys.unraisablehook = _without_ours(hook)
        for number in before:
            signal.signal(number, _watch.handle)
    watch = _watch
    assert watch is not None
    try:
        with _blamed(watch):
            yield
            check_interrupted()
    except Interrupted as interrupt:
        if outer is not None or interrupt.number != signal.SIGINT:
            raise
        raise _plain(interrupt) from interrupt.__cause__
    finally:
        if outer is None:
            watch.over, _watch = True, None
            sys.unraisablehook = hook
            for number, old in watch.before.items():
                signal.signal(number, old)


@contextlib.contextmanager
def _blamed(watch: _Watch) -> Iterator[None]:
    """What a signal broke in the block is not the reason that it ends, but the signal."""
    try:
        yield
    except Interrupted:
        raise
    except BaseException as error:
        if watch.came is None:
            raise
        raise Interrupted(watch.came, watch) from error


def _plain(interrupt: Interrupted) -> KeyboardInterrupt:
    """The same for those outside. Where it came from is shown, in one traceback, unless a sentence says enough."""
    plain = KeyboardInterrupt(*interrupt.args)
    return plain if interrupt.__suppress_context__ else plain.with_traceback(interrupt.__traceback__)


def check_interrupted() -> None:
    """Raise ``Interrupted`` if a signal came and what runs goes on all the same."""
    if _watch is not None and _watch.came is not None:
        raise Interrupted(_watch.came, _watch)


def answered(interrupt: KeyboardInterrupt) -> int:
    """The exit status that says how a command ended, 128 and the signal; ``interrupt`` is taken note of."""
    if not isinstance(interrupt, Interrupted):
        return 128 + signal.SIGINT
    interrupt._watch.came = None
    return 128 + interrupt.number


def is_ending() -> bool:
    """Whether a signal has come, so that nothing should be waited for any longer."""
    return bool(_held) or (_watch is not None and _watch.came is not None)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM in the block takes effect when the block is over; a second one does at once.

    Only in the main thread, for Python calls its handlers nowhere else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:  # None: installed by C code, which we left alone
                signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        _held.append(number)
        restore()

    for number, handler in before.items():
        if handler is not None and handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield
    finally:
        restore()
        if _held:
            signal.raise_signal(_held.pop())


def end_with_owner() -> None:
    """Where a process started this one as its worker, watch for its death: then this one ends, too.

    It is told as by SIGTERM, and has some seconds to record what it was at. A process whose parent has gone has another
    one: so it is on every system, however the parent died.
    """
    owner = os.environ.pop(OWNER, None)
    if owner is None:
        return
    parent = int(owner)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(OWNER_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="prunetune-owner", daemon=True).start()


def _is_loading(name: str) -> bool:
    """Whether the module is being imported right now."""
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def _without_ours(hook: Any) -> Any:
    def ignored(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            hook(unraisable)

    return ignored
