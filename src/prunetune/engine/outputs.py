"""The tensors in what a model returns, whatever it is: for the engine, which keeps their sizes, and for scorers."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunetune.errors import InputError

_CACHES = ("past_key_values",)
"""Keys of outputs that a network only feeds back to itself (transformers' caches): nobody relies on their sizes."""
_ATOMS = frozenset((int, float, bool, str, bytes, complex, type(None), torch.dtype, torch.device, torch.Size))
_LAZY = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, filter)
_CLOSED = (type, types.ModuleType, types.CodeType, types.FrameType, nn.Module, weakref.ref, torch.Generator)
"""What an output may refer to and does not hold."""


def tensors_of(output: Any) -> Iterator[Tensor]:
    """The tensors that an output holds, each once, in their order.

    They are found in containers of every kind and in attributes of any object, at any depth: whatever Python's garbage
    collector can reach from there. Not looked into are modules and classes.

    Raises
    ------
    InputError
        For what computes only when it is read: a generator.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> [tuple(t.shape) for t in tensors_of(SimpleNamespace(logits=torch.ones(2, 3), hidden=[{"a": torch.ones(4)}]))]
    [(2, 3), (4,)]
    """
    seen: set[int] = set()
    todo: list[Any] = [output]
    while todo:
        value = todo.pop()
        if type(value) in _ATOMS or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        else:
            todo += reversed(_inside(value))


def _inside(value: Any) -> list[Any]:
    """What a value directly holds."""
    if isinstance(value, _CLOSED) or _is_cache(value):
        return []
    if isinstance(value, _LAZY):
        name = getattr(value, "__qualname__", type(value).__name__)
        raise InputError(
            f"the model returns a {type(value).__name__} ({name!r}), whose code runs only when it is read; let forward "
            "return a list or a tuple"
        )
    if isinstance(value, dict):
        own = [item for key, item in value.items() if key not in _CACHES]
        return own if type(value) is dict else [*own, *getattr(value, "__dict__", {}).values()]
    if isinstance(value, np.ndarray):
        return list(value.flat) if value.dtype == object else []
    if isinstance(value, types.FunctionType):
        return [*(value.__closure__ or ()), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    return gc.get_referents(value)


def _is_cache(value: Any) -> bool:
    """Whether it is one of transformers' classes for such caches, under whatever key a version of it returns them."""
    module = sys.modules.get("transformers.cache_utils")
    return module is not None and isinstance(value, module.Cache)


__all__ = ["tensors_of"]
