"""Libraries that not everybody has: one sentence says what to install."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from prunetune.errors import InputError


def require(module: str, distribution: str, what: str) -> None:
    """Raise InputError unless ``module`` can be imported; nothing is.

    >>> require("no_such_module", "no-such-package", "the optimizer 'x'")
    Traceback (most recent call last):
        ...
    prunetune.errors.InputError: the optimizer 'x' needs no-such-package, which is not installed: pip install \
'no-such-package'
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"{what} needs {distribution.partition('>')[0]}, which is not installed: pip install {distribution!r}"
        )


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    return importlib.metadata.version(distribution)
