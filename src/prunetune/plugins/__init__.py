"""Scorers by name. A scorer is registered as a factory without arguments that returns a `Scorer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from prunetune.registry import Registry

if TYPE_CHECKING:
    from prunetune.plugins.base import Scorer

ScorerFactory: TypeAlias = "Callable[[], Scorer]"

scorers: Registry[ScorerFactory] = Registry("scorer")
scorers.register_lazy("synflow", "prunetune.plugins.synflow:SynFlow")
scorers.register_lazy("synflow-absolute", "prunetune.plugins.synflow:synflow_absolute")
scorers.register_lazy("magnitude", "prunetune.plugins.magnitude:Magnitude")
scorers.register_lazy("random", "prunetune.plugins.random:Random")
