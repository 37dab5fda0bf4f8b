"""Warnings of libraries that a user can do nothing about."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

import numpy as np

_lock = threading.RLock()  # the filters are one list for all threads: whoever leaves first would put it back


@contextlib.contextmanager
def quietly(category: type[Warning] = Warning, message: str = "") -> Iterator[None]:
    """No warnings of that category, or none that begin so, and none raised by numpy; one thread at a time."""
    with _lock, np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message, category=category)
        yield
