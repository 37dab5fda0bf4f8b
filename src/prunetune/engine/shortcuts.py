"""Shapes of results without asking the meta kernels, which take up to milliseconds (batch norm) to find them out.

A shortcut answers only where it is sure, and checks what the kernel would have checked; else the kernel is asked, and
raises its own error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Shortcut: TypeAlias = Callable[..., Tensor | None]
"""Called with the function's arguments; returns the result, or None where the kernel should be asked."""


def _same(input: Tensor, *args: Any, inplace: bool = False, dtype: Any = None, **kwargs: Any) -> Tensor | None:
    if dtype is not None:
        return None
    return input if inplace else torch.empty_like(input)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor | None:
    vectors = (running_mean, running_var, weight, bias)
    fits = input.ndim > 1 and all(v is None or v.shape == input.shape[1:2] for v in vectors)
    return torch.empty_like(input) if fits else None


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor | None:
    tail = tuple(input.shape[-len(normalized_shape) :])
    fits = tail == tuple(normalized_shape) and all(v is None or tuple(v.shape) == tail for v in (weight, bias))
    return torch.empty_like(input) if fits else None


def _in_place(input: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    fits = not kwargs and all(not isinstance(a, Tensor) or a.ndim == 0 or a.shape == input.shape for a in args)
    return input if fits else None


def _cat(tensors: Any, dim: int = 0, **kwargs: Any) -> Tensor | None:
    if kwargs or not isinstance(tensors, (tuple, list)) or not isinstance(dim, int):
        return None
    first = tensors[0]
    d = dim % first.ndim if first.ndim else 0
    rest = [(t.shape[:d], t.shape[d + 1 :], t.ndim, t.dtype) for t in tensors]
    if first.ndim == 0 or any(r != rest[0] for r in rest):
        return None
    shape = list(first.shape)
    shape[d] = sum(t.shape[d] for t in tensors)
    return torch.empty(shape, dtype=first.dtype, device=first.device)


def _checked_convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> None:
    """No shortcut, but a check that the meta kernel lacks."""
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"a convolution with weight {tuple(weight.shape)} has a bias of shape {tuple(bias.shape)}")


_ACTIVATIONS = (
    *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.silu, functional.gelu),
    *(functional.hardswish, functional.hardsigmoid, functional.hardtanh, functional.mish, functional.softplus),
    *(functional.sigmoid, functional.tanh, functional.softmax, functional.log_softmax),
    *(functional.dropout, functional.dropout2d, torch.relu, torch.sigmoid, torch.tanh, torch.softmax),
)

SHORTCUTS: dict[Any, Shortcut] = {
    **dict.fromkeys(_ACTIVATIONS, _same),
    **dict.fromkeys((torch.relu_, torch.Tensor.relu_, torch.Tensor.add_, torch.Tensor.mul_), _in_place),
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    torch.cat: _cat,
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _checked_convolution),
}


def run_for_shape(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What `func` returns on meta tensors."""
    shortcut = SHORTCUTS.get(func)
    result = shortcut(*args, **kwargs) if shortcut is not None else None
    return func(*args, **kwargs) if result is None else result
