"""How the C library deals with the memory of tensors on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Iterator
from typing import Final

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
"""`mallopt(3)`."""
OWN: Final = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "LD_PRELOAD")
"""Who sets one of these has chosen."""
LARGEST: Final = 2**31 - 1
USUAL: Final = {MMAP_MAX: 65536, MMAP_THRESHOLD: 1 << 25, TRIM_THRESHOLD: 1 << 26, TOP_PAD: 1 << 17}
"""What glibc comes to by itself in a process that has freed large tensors: it raises its thresholds up to these."""
GIVE_BACK_SECONDS: Final = 10.0
"""To give back and to get it again takes some tenths of a second."""

_kept = False
_given = 0.0


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors free for those that come next; returns whether it does now.

    glibc gives large blocks back to the system, which clears their pages again when the next training step asks for
    them. That is a tenth to a fifth of a convolutional network's step on a CPU, and it differs from one process to
    the next, with what else lies on the heap (decision 28). `tune`, `work`, `check` and `compare` do it while they
    last, give back what is free now and then between trainings, and step times are measured with it; call it in a
    script that trains on a CPU by itself. The process then stays as large as it once was. Nothing is changed under
    other C libraries, or where the environment has a setting of the user's, such as ``MALLOC_TRIM_THRESHOLD_`` or
    another allocator in ``LD_PRELOAD``.
    """
    global _kept
    if not _may_choose():
        return False
    set_option = ctypes.CDLL(None).mallopt
    no_blocks_of_their_own = set_option(MMAP_THRESHOLD, LARGEST) or set_option(MMAP_MAX, 0)
    _kept = bool(no_blocks_of_their_own and set_option(TRIM_THRESHOLD, LARGEST) and set_option(TOP_PAD, 1 << 26))
    return _kept


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """`keep_freed_memory` while the block lasts; afterwards the memory goes back, unless it was so before."""
    global _kept
    before = _kept
    keeps = keep_freed_memory()
    try:
        yield
    finally:
        if keeps and not before:
            _kept = False
            for option, value in USUAL.items():
                ctypes.CDLL(None).mallopt(option, value)
            give_back()


def give_back() -> None:
    """Let the system have what is free: pieces that the next training cannot use would add up."""
    global _given
    _given = time.monotonic()
    if _may_choose():
        ctypes.CDLL(None).malloc_trim(0)


def give_back_at_times() -> None:
    """`give_back`, where memory is kept, unless that was just now: a short training would spend its gain on it."""
    if _kept and time.monotonic() - _given > GIVE_BACK_SECONDS:
        give_back()


def _may_choose() -> bool:
    return platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in OWN)
