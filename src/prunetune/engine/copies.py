"""Copies of a model that share nothing they should not, and cost no more than they must."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their first qualified name; a tied tensor appears once."""
    seen: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) not in seen:
            seen[id(tensor)] = name
            tensors[name] = tensor
    return tensors


def copy_with(model: nn.Module, replacements: Mapping[int, Tensor]) -> nn.Module:
    """A deep copy of `model` in which each tensor whose `id` is in `replacements` is that replacement.

    The copy never holds the weights twice: `deepcopy` finds each replacement in its memo.
    """
    memo: dict[int, Any] = dict(replacements)
    return copy.deepcopy(model, memo)


def meta_like(tensor: Tensor) -> Tensor:
    meta = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta


_INTERNAL = frozenset(vars(nn.Module())) | {"_is_full_backward_hook"}


def own_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module's class put on it, besides parameters, buffers, submodules and hooks."""
    return ((key, value) for key, value in vars(module).items() if key not in _INTERNAL)


def all_tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():  # tensors kept as plain attributes
        for _, value in own_attributes(module):
            if isinstance(value, (Tensor, list, tuple, dict)):
                yield from (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors have shapes but no values; costs no memory for the weights."""
    return copy_with(model, {id(t): meta_like(t) for t in all_tensors(model)})


def value_copy(model: nn.Module) -> nn.Module:
    """A copy that shares the parameters, which a run does not change, and has buffers of its own."""
    return copy_with(model, {id(p): p for p in model.parameters()} | {id(b): b.clone() for b in model.buffers()})
