"""How the C library deals with the memory of tensors on a CPU."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
"""`mallopt(3)`."""
OWN: Final = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "LD_PRELOAD")
"""Who sets one of these has chosen."""
LARGEST: Final = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors free for those that come next; returns whether it does now.

    glibc gives large blocks back to the system, which clears their pages again when the next training step asks for
    them. That is a tenth to a fifth of a convolutional network's step on a CPU, and it differs from one process to
    the next, with what else lies on the heap (decision 28). `tune`, `work`, `check` and `compare` call this, and step
    times are measured with it; call it in a script that trains on a CPU by itself. The process then stays as large
    as it once was. Nothing is changed under other C libraries, or where the environment has a setting of the user's,
    such as ``MALLOC_TRIM_THRESHOLD_`` or another allocator in ``LD_PRELOAD``.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    no_blocks_of_their_own = mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_MAX, 0)
    return bool(no_blocks_of_their_own and mallopt(TRIM_THRESHOLD, LARGEST) and mallopt(TOP_PAD, 1 << 26))
