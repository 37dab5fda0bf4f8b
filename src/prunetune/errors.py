"""Every error that prunetune raises on purpose.

One sentence each: what was wrong, what was given, what to try. The command line prints that sentence and exits with
status 2; from Python they are ordinary exceptions with one common base.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import sys
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

MOST_NAMES = 24
"""More are not listed in a message."""
_OURS: Final = str(Path(__file__).parent) + os.sep


class PrunetuneError(Exception):
    """Base of all errors that prunetune raises on purpose."""


class InputError(PrunetuneError, ValueError):
    """What the caller passed in cannot be used: an unknown name, an impossible range, a wrong shape."""


class PluginError(InputError):
    """A name stands for something of another distribution that cannot be used, or two distributions claim it."""


class BudgetError(InputError):
    """A budget cannot be reached; `nearest` is what can."""

    def __init__(self, message: str, nearest: float) -> None:
        super().__init__(message)
        self.nearest = nearest


class TraceError(PrunetuneError):
    """The model could not be run on the example inputs, so nothing is known about its dependencies."""


class PlanError(PrunetuneError):
    """A pruning plan does not fit the model that it was to be applied to."""


class SearchError(PrunetuneError):
    """A search cannot go on: every trial fails, or the study belongs to another search."""


class StorageError(SearchError):
    """A study's storage cannot be opened, or was gone for longer than anyone wants to wait."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """An error that names what was given, the nearest known name, and all known names (the first, if there are many).

    The prefix of a name, its library, may be left out: what fits exactly then is nearer than what is alike.

    >>> str(unknown_name("scorer", "synflw", ["random", "synflow"]))
    "unknown scorer 'synflw' (did you mean 'synflow'?); known: random, synflow"
    >>> str(unknown_name("optimizer", "cmaes", ["cma-es", "optuna:cmaes"]))
    "unknown optimizer 'cmaes' (did you mean 'optuna:cmaes'?); known: cma-es, optuna:cmaes"
    """
    names = sorted(known)
    forms = {name.rpartition(":")[2]: name for name in names} | {name: name for name in names}
    close = difflib.get_close_matches(given, forms, n=1)
    hint = f" (did you mean {forms[close[0]]!r}?)" if close else ""
    if len(names) > MOST_NAMES:
        names = [*names[: MOST_NAMES // 2], f"and {len(names) - MOST_NAMES // 2} more"]
    return InputError(f"unknown {kind} {given!r}{hint}; known: {', '.join(names) or 'none'}")


def warn_caller(message: str) -> None:
    """A UserWarning at the line that called prunetune, however deep in prunetune it is found out."""
    frames = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe(1)))
    inside = itertools.takewhile(lambda file: file.startswith(_OURS) or file == contextlib.__file__, frames)
    warnings.warn(message, UserWarning, stacklevel=2 + sum(1 for _ in inside))
