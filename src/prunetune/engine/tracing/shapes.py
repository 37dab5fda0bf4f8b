"""Shapes of results without asking the meta kernels, which take up to milliseconds (batch norm) to find them out.

A shortcut answers only where it is sure, and checks what the kernel would have checked; else the kernel is asked, and
raises its own error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ShapeFunction: TypeAlias = Callable[..., Any]
"""Called with the function's arguments; returns the result, or None where the kernel should be asked."""


def _like(tensor: Tensor) -> Tensor:
    """`torch.empty_like`, which on the meta device is slow."""
    if tensor.is_contiguous():
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return torch.empty_like(tensor)


def _same(input: Tensor, *args: Any, inplace: bool = False, dtype: Any = None, **kwargs: Any) -> Tensor | None:
    if dtype is not None or kwargs.get("out") is not None or any(isinstance(a, torch.dtype) for a in args):
        return None
    return input if inplace else _like(input)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return _like(input) if training and p > 0 and not inplace else input


def _contiguous(input: Tensor, **kwargs: Any) -> Tensor | None:
    if kwargs:
        return None
    return input if input.is_contiguous() else torch.empty(input.shape, dtype=input.dtype, device="meta")


def _unary(input: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    plain = input.is_floating_point() and not any(isinstance(a, Tensor) for a in (*args, *kwargs.values()))
    return _like(input) if plain else None


def _binary(input: Tensor, other: Any, **kwargs: Any) -> Tensor | None:
    if kwargs or not isinstance(input, Tensor) or not input.is_floating_point():
        return None
    if isinstance(other, (int, float)):
        return _like(input)
    if not isinstance(other, Tensor) or other.dtype != input.dtype or other.device != input.device:
        return None
    if other.shape == input.shape:
        return _like(input)
    try:
        shape = np.broadcast_shapes(input.shape, other.shape)
    except ValueError:
        return None
    return _like(input) if shape == input.shape else torch.empty(shape, dtype=input.dtype, device="meta")


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
    return _like(input) if fits else None


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
    return _like(input) if fits else None


def _masked(input: Tensor, mask: Tensor, value: Any) -> Tensor | None:
    plain = isinstance(value, (int, float)) and mask.dtype == torch.bool and input.is_floating_point()
    return _like(input) if plain and _reaches(mask.shape, input.shape) else None


def _reaches(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor of one shape can be expanded to the other."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(n in (1, m) for n, m in pairs)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor | None:
    """(…, L, E), (…, S, E), (…, S, Ev) and a mask for (…, L, S) give (…, L, Ev)."""
    if args or kwargs.get("enable_gqa") or not query.ndim == key.ndim == value.ndim > 2:
        return None
    alike = query.dtype == key.dtype == value.dtype and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    if not alike or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        return None
    if attn_mask is not None and not (
        attn_mask.dtype in (torch.bool, query.dtype) and _reaches(attn_mask.shape, (*query.shape[:-1], key.shape[-2]))
    ):
        return None
    return torch.empty((*query.shape[:-1], value.shape[-1]), dtype=query.dtype, device=query.device)


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


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Output sizes floor((n + 2 p - d (k - 1) - 1) / s) + 1. The kernel does not check the bias, so it is done here."""
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"a convolution with weight {tuple(weight.shape)} has a bias of shape {tuple(bias.shape)}")
    spatial = weight.ndim - 2
    fits = input.ndim == weight.ndim and input.shape[1] == weight.shape[1] * groups and weight.shape[0] % groups == 0
    if not fits or isinstance(padding, str) or not input.is_contiguous() or input.dtype != weight.dtype:
        return None
    sizes = [*input.shape[:1], *weight.shape[:1]]
    options = (_each(stride, spatial), _each(padding, spatial), _each(dilation, spatial))
    for n, k, s, p, d in zip(input.shape[2:], weight.shape[2:], *options, strict=True):
        size = (n + 2 * p - d * (k - 1) - 1) // s + 1
        if size < 1:
            return None
        sizes.append(size)
    return torch.empty(sizes, dtype=input.dtype, device=input.device)


def _mean(input: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor | None:
    if kwargs or not input.is_floating_point() or not isinstance(keepdim, bool) or isinstance(dim, torch.dtype):
        return None
    given = range(input.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    if not all(isinstance(d, int) and -input.ndim <= d < input.ndim for d in given):
        return None
    gone = {d % input.ndim for d in given} or set(range(input.ndim))
    sizes = [1 if d in gone else n for d, n in enumerate(input.shape) if keepdim or d not in gone]
    return torch.empty(sizes, dtype=input.dtype, device=input.device)


def _adaptive_pool(spatial: int) -> ShapeFunction:
    def run(input: Tensor, output_size: Any) -> Tensor | None:
        sizes = _each(output_size, spatial)
        if input.ndim < spatial + 1 or len(sizes) != spatial:
            return None
        places = [n if size is None else size for size, n in zip(sizes, input.shape[-spatial:], strict=True)]
        return torch.empty((*input.shape[:-spatial], *places), dtype=input.dtype, device=input.device)

    return run


def _each(value: Any, n: int) -> Sequence[Any]:
    if isinstance(value, (tuple, list)):
        return value if len(value) == n else value * n
    return (value,) * n


def _interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, *args: Any, **kwargs: Any) -> Tensor | None:
    spatial = input.ndim - 2
    if spatial < 1 or (size is None) == (scale_factor is None):
        return None
    if size is None:
        size = [math.floor(n * f) for n, f in zip(input.shape[2:], _each(scale_factor, spatial), strict=True)]
    size = _each(size, spatial)
    if len(size) != spatial or any(n < 1 for n in size):
        return None
    return torch.empty((*input.shape[:2], *size), dtype=input.dtype, device=input.device)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    fits = weight.ndim == 2 and input.ndim > 0 and input.shape[-1] == weight.shape[1] and input.dtype == weight.dtype
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    return torch.empty((*input.shape[:-1], weight.shape[0]), dtype=input.dtype, device=input.device)


def _recurrent(gates: int) -> ShapeFunction:
    """The layers of `torch.lstm` and its kind, which the meta kernels unroll step by step."""

    def run(
        input: Tensor,
        state: Any,
        weights: Any,
        has_biases: bool = True,
        num_layers: int = 1,
        dropout: float = 0.0,
        train: bool = False,
        bidirectional: bool = False,
        batch_first: bool = False,
    ) -> Any:
        states = (state,) if isinstance(state, Tensor) else tuple(state)
        directions = 1 + bidirectional
        per_cell = 4 if has_biases else 2
        if not isinstance(weights, (tuple, list)) or len(weights) != per_cell * num_layers * directions:
            return None
        hidden, width = states[0].shape[-1], input.shape[-1]
        for i in range(0, len(weights), per_cell):
            below = width if i < per_cell * directions else hidden * directions
            shapes = [(gates * hidden, below), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
            if any(tuple(w.shape) != s for w, s in zip(weights[i : i + per_cell], shapes, strict=False)):
                return None
        out = torch.empty((*input.shape[:-1], hidden * directions), dtype=input.dtype, device=input.device)
        return (out, *map(_like, states))

    return run


def _gradient(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """One of each input's shape, whatever it is; what shortcuts give has no history to find it by."""
    return tuple(_like(t) for t in ((inputs,) if isinstance(inputs, Tensor) else inputs))


_ACTIVATIONS = (
    *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.silu, functional.gelu),
    *(functional.hardswish, functional.hardsigmoid, functional.hardtanh, functional.mish, functional.softplus),
    *(functional.sigmoid, functional.tanh, functional.softmax, functional.log_softmax),
    *(torch.relu, torch.sigmoid, torch.tanh, torch.softmax),
)

SHAPE_FUNCTIONS: dict[Any, ShapeFunction] = {
    **dict.fromkeys(_ACTIVATIONS, _same),
    **dict.fromkeys((torch.Tensor.exp, torch.Tensor.clamp, torch.clamp, torch.Tensor.sigmoid, torch.exp), _unary),
    **dict.fromkeys((functional.dropout, functional.dropout2d), _dropout),
    **dict.fromkeys((torch.Tensor.pow, torch.pow, torch.rsqrt, torch.sqrt), _unary),
    **dict.fromkeys((torch.roll, torch.Tensor.roll), _same),
    torch.Tensor.masked_fill: _masked,
    functional.scaled_dot_product_attention: _attention,
    torch.Tensor.contiguous: _contiguous,
    **dict.fromkeys((torch.Tensor.softmax, functional.normalize), _same),
    **dict.fromkeys((torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div), _binary),
    **dict.fromkeys((torch.add, torch.sub, torch.mul, torch.div), _binary),
    **dict.fromkeys((torch.relu_, torch.Tensor.relu_, torch.Tensor.add_, torch.Tensor.mul_), _in_place),
    **dict.fromkeys((torch.mean, torch.sum, torch.Tensor.mean, torch.Tensor.sum), _mean),
    functional.batch_norm: _batch_norm,
    functional.adaptive_avg_pool1d: _adaptive_pool(1),
    functional.adaptive_avg_pool2d: _adaptive_pool(2),
    functional.adaptive_avg_pool3d: _adaptive_pool(3),
    functional.layer_norm: _layer_norm,
    torch.cat: _cat,
    torch.autograd.grad: _gradient,
    functional.interpolate: _interpolate,
    torch.lstm: _recurrent(4),
    torch.gru: _recurrent(3),
    **dict.fromkeys((torch.rnn_tanh, torch.rnn_relu), _recurrent(1)),
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _convolution),
    **dict.fromkeys((functional.linear, torch._C._nn.linear), _linear),
}


def run_for_shape(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What `func` returns on meta tensors. No other mode sees what the shortcuts do."""
    shortcut = SHAPE_FUNCTIONS.get(func)
    if shortcut is not None:
        with torch._C.DisableTorchFunction():
            result = shortcut(*args, **kwargs)
        if result is not None:
            return result
    return func(*args, **kwargs)
