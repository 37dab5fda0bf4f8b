"""Lines of the user's code: where in it something happened."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import torch

_ENGINE = str(Path(__file__).parent) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep


def running_line() -> str:
    """`net.py:12`: the line of the model's code that runs now."""
    frames = ((f.f_code.co_filename, n) for f, n in traceback.walk_stack(sys._getframe(1)))
    return _named(_innermost(frames))


def raising_line(error: BaseException | TracebackType | None) -> str:
    """`net.py:12`: the line of the model's code that an error came through."""
    trace = error.__traceback__ if isinstance(error, BaseException) else error
    frames = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(trace)]
    return _named(_innermost(reversed(frames)))


def _innermost(frames: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    """The first line that is not torch's, and torch's own if the model is one of its modules."""
    of_torch = None
    for file, line in frames:
        if file.startswith(_TORCH):
            of_torch = of_torch or (file, line)
        elif not file.startswith(_ENGINE):
            return file, line
        elif file.endswith("trace.py"):  # it calls the model: nothing outside of that is the model's code
            break
    return of_torch


def _named(found: tuple[str, int] | None) -> str:
    return "an unknown line" if found is None else f"{Path(found[0]).name}:{found[1]}"
