"""From a budget to a proxy: ``prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunetune.pruning.cut import prune  # loads torch

__all__ = ["prune"]


def __getattr__(name: str) -> Any:
    """``prune``, on first use: it loads torch, and settings are checked without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prunetune.pruning.cut import prune  # loads torch

    return prune
