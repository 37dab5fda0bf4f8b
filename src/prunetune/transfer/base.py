"""What a transfer rule is, and how much narrower each parameter of a proxy is than the full network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

from torch import nn

from prunetune.engine import PruningPlan
from prunetune.engine.tracing.copies import named_modules

OptimizerKind: TypeAlias = Literal["sgd", "adam"]
"""``"sgd"``, with or without momentum, or ``"adam"``: an update whose size does not depend on the gradient's."""

OPTIMIZER_KINDS: tuple[str, ...] = get_args(OptimizerKind)


@dataclass(frozen=True)
class Width:
    """How many of a parameter's inputs and outputs are left, as shares of the full network's.

    ``fan_in`` is 1 for what has none that could be narrower: biases, gains of norms, embeddings, depthwise kernels,
    layers that see the network's input.
    """

    fan_in: float = 1.0
    fan_out: float = 1.0

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
            found[name] = _width(module, key, _shares(plan, name), groups)
    return found


def _shares(plan: PruningPlan, name: str) -> dict[int, float]:
    """By dimension, what is left of a parameter's size in it."""
    cut = plan.tensors.get(name)
    return {} if cut is None else {dim: len(kept) / cut.shape[dim] for dim, kept in cut.keep.items()}


def _width(module: nn.Module, key: str, shares: Mapping[int, float], groups: float) -> Width:
    dimensions = module._parameters[key].ndim  # type: ignore[union-attr]  # the caller has looked
    if dimensions < 2 or isinstance(module, _LOOKED_UP) or not _is_matrix(key):
        product = 1.0
        for share in shares.values():
            product *= share
        return Width(fan_out=product)
    first, second = shares.get(0, 1.0), shares.get(1, 1.0)
    return Width(first / groups, second * groups) if isinstance(module, _INPUTS_FIRST) else Width(second, first)


def _is_matrix(key: str) -> bool:
    """Whether a parameter with several dimensions is the weight of a linear map, by the names that torch gives them."""
    return "weight" in key or key.startswith("original")
