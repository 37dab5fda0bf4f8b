"""Hyperparameters of the network itself: a ``model_fn(params)``, built for each training with its own.

A proxy is cut by one plan, so that only what has no part in it may differ: dropout, an activation, the epsilon of a
norm. What would be another network to the plan is refused before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from prunetune.backends import Categorical, Distribution, SearchSpace
from prunetune.errors import InputError
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


def check_variants(build: ModelFunction, seed: int) -> None:
    """Raise InputError for a hyperparameter that changes what a plan of the network would cut."""
    if not isinstance(build, Architecture):
        return
    with torch.random.fork_rng():
        usual = _shapes(build.function, middle(build.space), seed)
        for name, params in build.variants():
            if (other := _shapes(build.function, params, seed)) != usual:
                raise InputError(
                    f"model_fn builds other layers for {name}={params[name]!r}: {_difference(usual, other)}. Proxies "
                    "are cut by one plan, which is for one network: search what leaves its shapes alone (dropout, an "
                    "activation), and compare networks of several shapes by a search of each"
                )


def middle(space: SearchSpace) -> dict[str, Any]:
    """The middle of every range, and the first of all choices."""
    return {name: distribution.plain(_middle(distribution)) for name, distribution in space.items()}


def _middle(distribution: Distribution) -> Any:
    if isinstance(distribution, Categorical):
        return distribution.choices[0]
    low, high = distribution.low, distribution.high
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    step = distribution.step
    return value if step is None else low + step * round((value - low) / step)


def _extremes(distribution: Distribution) -> tuple[Any, ...]:
    return distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)


def _shapes(function: ParametrisedModelFunction, params: dict[str, Any], seed: int) -> dict[str, tuple[int, ...]]:
    torch.manual_seed(seed)
    model = function(params)
    if not isinstance(model, nn.Module):
        raise InputError(f"model_fn must return a torch.nn.Module; it returned {type(model).__name__}")
    return {name: tuple(tensor.shape) for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _difference(usual: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> str:
    """The first tensor that only one of them has, or that has another shape."""
    name = next(name for name in (*usual, *other) if usual.get(name) != other.get(name))
    if name not in other or name not in usual:
        return f"{name} is {'not there' if name not in other else 'new'}"
    return f"{name} is {other[name]} and not {usual[name]}"
