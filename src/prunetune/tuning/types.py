"""The functions that a user brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

if TYPE_CHECKING:
    from prunetune.backends.study.trial import Report

ModelFunction: TypeAlias = Callable[[], nn.Module]
ParametrisedModelFunction: TypeAlias = Callable[[dict[str, Any]], nn.Module]
GivenModelFunction: TypeAlias = ModelFunction | ParametrisedModelFunction
"""What a user may give: ``model_fn()``, or ``model_fn(params)`` for hyperparameters of the network itself."""
TrainFunction: TypeAlias = "Callable[[nn.Module, dict[str, Any], Report], float]"
EvaluateFunction: TypeAlias = Callable[[nn.Module], Mapping[str, float] | float]
