"""What a transfer rule is, and how much narrower each parameter of a proxy is than the full network's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from torch import nn

from prunetune.engine import PruningPlan
from prunetune.engine.tracing.copies import named_modules
from prunetune.transfer.kinds import OptimizerKind

Kind: TypeAlias = Literal["matrix", "depthwise", "vector", "bias", "embedding"]


@dataclass(frozen=True)
class Width:
    """How many of a parameter's inputs and outputs are left, as shares of the full network's.

    ``fan_in`` is 1 for what has none that could be narrower: biases, gains of norms, embeddings, depthwise kernels,
    layers that see the network's input. ``kind`` is what it is: "bias" beside a weight in the same layer, "vector" for
    whatever else has no inputs (gains and biases of norms, positions), "embedding" for a table that is looked up in,
    "depthwise" for kernels of one channel each, "matrix" for other weights. ``normed``: the outputs do not depend on
    its scale, since a norm follows. ``depth``: the share of the network's residual
    blocks that is left.
    """

    fan_in: float = 1.0
    fan_out: float = 1.0
    kind: Kind = "matrix"
    normed: bool = False
    depth: float = 1.0

    @property
    def is_readout(self) -> bool:
        """Whether it takes what is narrower to something as wide as before: a class each, say."""
        return self.fan_in < 1.0 and self.fan_out == 1.0


@dataclass(frozen=True)
class Factors:
    """Factors for the learning rate, the weight decay and the initial weights of a proxy's parameter."""

    lr: float = 1.0
    weight_decay: float = 1.0
    init: float = 1.0


class TransferRule(Protocol):
    """What a proxy's parameter of some width makes of the full network's hyperparameters."""

    name: str

    def scale(self, width: Width, optimizer: OptimizerKind) -> Factors:
        """The factors for a parameter."""
        ...


_INPUTS_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LOOKED_UP = (nn.Embedding, nn.EmbeddingBag)


def widths(model: nn.Module, plan: PruningPlan) -> Mapping[str, Width]:
    """The width of every parameter of ``model``, a proxy that ``plan`` has cut, by its first qualified name.

    Weights are ``(out, in, …)``, and embeddings have no fan-in, since one row of them is read at a time. In grouped
    convolutions, ``(out, in / groups, …)``, a channel sees those of its group only, so that the fan-in is that of
    dimension 1 as it stands; the weights of transposed ones are ``(in, out / groups, …)``, where the share of groups
    that are left has to come in. Parameters of other kinds (positions, layer scales, tokens) have a fan-out.
    """
    found: dict[str, Width] = {}
    seen: set[int] = set()
    for path, module in named_modules(model):
        for key, parameter in module._parameters.items():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{path}.{key}" if path else key
            change = plan.attributes.get(f"{path}.groups")
            groups = 1.0 if change is None else change.after / change.before
            width = _width(module, key, _shares(plan, name), groups)
            found[name] = replace(width, normed=name in plan.normed, depth=plan.depth)
    return found


def _shares(plan: PruningPlan, name: str) -> dict[int, float]:
    """By dimension, what is left of a parameter's size in it."""
    cut = plan.tensors.get(name)
    return {} if cut is None else {dim: len(kept) / cut.shape[dim] for dim, kept in cut.keep.items()}


def _width(module: nn.Module, key: str, shares: Mapping[int, float], groups: float) -> Width:
    parameter = module._parameters[key]
    assert parameter is not None  # the caller has looked
    if parameter.ndim < 2 or isinstance(module, _LOOKED_UP) or not _is_matrix(key):
        return Width(fan_out=math.prod(shares.values(), start=1.0), kind=_kind_without_inputs(module, key))
    first, second = shares.get(0, 1.0), shares.get(1, 1.0)
    kind: Kind = "depthwise" if parameter.shape[1] == 1 and groups != 1.0 else "matrix"
    if isinstance(module, _INPUTS_FIRST):
        return Width(first / groups, second * groups, kind)
    return Width(second, first, kind)


def _kind_without_inputs(module: nn.Module, key: str) -> Kind:
    if isinstance(module, _LOOKED_UP):
        return "embedding"
    others = (each for name, each in module._parameters.items() if name != key and _is_matrix(name))
    beside = any(each is not None and each.ndim > 1 for each in others)
    return "bias" if beside and "bias" in key else "vector"


def _is_matrix(key: str) -> bool:
    """Whether a parameter with several dimensions is the weight of a linear map, by the names that torch gives them."""
    return "weight" in key or key.startswith("original")
