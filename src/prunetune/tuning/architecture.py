"""Hyperparameters of the network itself: a ``model_fn(params)``, built for each training with its own.

What leaves the shapes alone has no part in a plan: dropout, an activation, the epsilon of a norm. Networks of other
shapes are cut by plans of their own, see ``plans.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeGuard, cast

from torch import nn

from prunetune.backends import Categorical, Distribution, SearchSpace
from prunetune.pruning.checks import takes_hyperparameters
from prunetune.tuning.proxy_factory import ProxyFactory
from prunetune.tuning.types import GivenModelFunction, ModelFunction, ParametrisedModelFunction


@dataclass(frozen=True)
class Architecture:
    """A ``model_fn(params)`` as one without arguments: it builds the network in the middle of the space."""

    function: ParametrisedModelFunction
    space: SearchSpace

    def __call__(self) -> nn.Module:
        """The network for the hyperparameters in the middle."""
        return self.function(middle(self.space))

    def variants(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each hyperparameter with each of its choices, or at either end of its range; the others in the middle."""
        usual = middle(self.space)
        for name, distribution in self.space.items():
            for value in _extremes(distribution):
                yield name, {**usual, name: value}

    def corners(self) -> Iterator[dict[str, Any]]:
        """All at the lower ends of their ranges, or the first choices, and all at the others."""
        for place in (0, -1):
            yield {name: _extremes(distribution)[place] for name, distribution in self.space.items()}


def network_of(model_fn: GivenModelFunction, space: SearchSpace) -> ModelFunction:
    """``model_fn`` as one that can be called without arguments, whether or not it asks for hyperparameters."""
    if takes_hyperparameters(model_fn):
        return Architecture(cast(ParametrisedModelFunction, model_fn), space)
    return cast(ModelFunction, model_fn)


def built_for(build: ModelFunction, params: dict[str, Any]) -> ModelFunction:
    """What builds the network, or a proxy of it, for these hyperparameters; they are read by who asks for them."""
    if isinstance(build, ProxyFactory):
        return replace(build, model_fn=built_for(build.model_fn, params))
    return partial(build.function, params) if isinstance(build, Architecture) else build


def middle(space: SearchSpace) -> dict[str, Any]:
    """The middle of every range and of choices that are numbers, and the first of other choices."""
    return {name: distribution.plain(_middle(distribution)) for name, distribution in space.items()}


def _middle(distribution: Distribution) -> Any:
    if isinstance(distribution, Categorical):
        numbers = sorted(each for each in distribution.choices if _is_number(each))
        return numbers[len(numbers) // 2] if len(numbers) == len(distribution.choices) else distribution.choices[0]
    low, high = distribution.low, distribution.high
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    step = distribution.step
    return value if step is None else low + step * round((value - low) / step)


def _is_number(choice: Any) -> TypeGuard[int | float]:
    return isinstance(choice, int | float) and not isinstance(choice, bool)


def _extremes(distribution: Distribution) -> tuple[Any, ...]:
    return distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)
