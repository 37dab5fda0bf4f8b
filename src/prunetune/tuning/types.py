"""The functions that a user brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

if TYPE_CHECKING:
    from prunetune.backends.study.trial import Report

ModelFunction: TypeAlias = Callable[[], nn.Module]
TrainFunction: TypeAlias = "Callable[[nn.Module, dict[str, Any], Report], float]"
EvaluateFunction: TypeAlias = Callable[[nn.Module], Mapping[str, float] | float]
