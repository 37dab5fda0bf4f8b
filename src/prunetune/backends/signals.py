"""Ctrl-C and SIGTERM wait while something is written that must not be left half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_PATIENT: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM in the block takes effect when the block is over; a second one does at once.

    Only in the main thread, for Python calls its handlers nowhere else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in _PATIENT}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:  # None: installed by C code, which we left alone
                signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        restore()

    for number, handler in before.items():
        if handler is not None and handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield
    finally:
        restore()
        if waiting:
            signal.raise_signal(waiting[0])
