"""From a budget to a proxy: ``prune``."""

from __future__ import annotations

from prunetune.pruning.cut import prune

__all__ = ["prune"]
