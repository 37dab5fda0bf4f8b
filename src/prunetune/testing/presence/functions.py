"""What torch functions mean for tensors that know what is gone: facts of the tensor, moving, joining, reducing."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from prunetune.testing.presence.tensors import (
    Present,
    agree,
    keeps_of,
    mask_of,
    means,
    outer,
    present,
    value_of,
    whole,
)

# -- facts of the tensor itself ----------------------------------------------------------------------------------------


class SizeWithGaps(int):
    """The size of a dimension with gaps. Code computes with the whole; as a factor of values it is what is there."""

    left: Any


class RatioWithGaps(float):
    """What code computes from such sizes."""

    left: Any


def left_of(number: Any) -> Any:
    """The number as a factor of values."""
    return number.left if isinstance(number, (SizeWithGaps, RatioWithGaps)) else number


def _plain(number: Any) -> Any:
    """The number that code computes with."""
    if isinstance(number, SizeWithGaps):
        return int.__int__(number)
    return float(number) if isinstance(number, RatioWithGaps) else number


def _both(value: Any, left: Any) -> Any:
    result = SizeWithGaps(value) if isinstance(value, int) else RatioWithGaps(value)
    result.left = left
    return result


def _computed(function: Any, reflected: bool) -> Any:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        a, b = (other, self) if reflected else (self, other)
        return _both(function(_plain(a), _plain(b)), function(left_of(a), left_of(b)))

    return method


for _kind in (SizeWithGaps, RatioWithGaps):
    for _function in (operator.add, operator.sub, operator.mul, operator.truediv, pow):
        setattr(_kind, f"__{_function.__name__}__", _computed(_function, reflected=False))
        setattr(_kind, f"__r{_function.__name__}__", _computed(_function, reflected=True))
SizeWithGaps.__float__ = lambda self: float(self.left)  # type: ignore[attr-defined,method-assign]  # for math.sqrt


@means(Tensor.shape.__get__)  # type: ignore[attr-defined]
def shape(func: Any, x: Any) -> Any:
    return tuple(
        _both(n, int(k.sum())) if n > int(k.sum()) else n for n, k in zip(value_of(x).shape, keeps_of(x), strict=True)
    )


@means(Tensor.size)
def size(func: Any, x: Any, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


@means(*(getattr(Tensor, n).__get__ for n in ("dtype", "device", "ndim", "requires_grad", "is_nested")))
@means(*(getattr(Tensor, n).__get__ for n in ("is_cuda", "is_cpu", "layout")))
@means("numel", "dim", "is_floating_point", "is_complex", "is_contiguous", Tensor.__len__)
@means(Tensor.__repr__, Tensor.__format__, "stride", "new_zeros", "new_ones")
def fact(func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return func(value_of(x), *args, **kwargs)


# -- moving data -------------------------------------------------------------------------------------------------------


def _moved_mask(x: Any) -> Any:
    """The mask of whatever holds data; tensors of integers are indices and stay."""
    if not isinstance(x, Tensor) or not (isinstance(x, Present) or x.is_floating_point() or x.is_complex()):
        return x
    return mask_of(x).to(torch.uint8)


@means("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "reshape", "view", "flatten")
@means("unflatten", "unsqueeze", "squeeze", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
@means("chunk", "split", "split_with_sizes", "tensor_split", "narrow", "select", "unbind", "cat")
@means("stack", "repeat", "repeat_interleave", "expand", "contiguous", "clone", "detach", "concat")
@means(Tensor.__getitem__, *(getattr(Tensor, n).__get__ for n in ("T", "mT", "data")))
def move(func: Any, *args: Any, **kwargs: Any) -> Any:
    values = func(*pytree.tree_map(value_of, args), **kwargs)
    masks = func(*pytree.tree_map(_moved_mask, args), **kwargs)
    both = zip(pytree.tree_leaves(values), pytree.tree_leaves(masks), strict=True)
    results = [present(v, m.bool(), func.__name__) for v, m in both]
    return tuple(results) if isinstance(values, (tuple, list)) else results[0]


@means("to", "double", "float")
def of_type(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return present(func(value_of(x), *args, **kwargs), mask_of(x), func.__name__)


@means("type_as")
def type_as(func: Any, x: Tensor, other: Tensor) -> Tensor:
    return present(value_of(x).type_as(value_of(other)), mask_of(x), "type_as")


@means("view_as", "reshape_as")
def view_as(func: Any, x: Tensor, other: Tensor) -> Tensor:
    result: Tensor = move(Tensor.reshape, x, tuple(other.shape))
    return result


@means("expand_as")
def expand_as(func: Any, x: Tensor, other: Tensor) -> Tensor:
    """Copies appear exactly where `other` has something."""
    mask = mask_of(x).expand(other.shape) & mask_of(other)
    return present(value_of(x).expand(other.shape), mask, "expand_as")


def transforms(*names: str) -> list[Any]:
    return [getattr(torch.fft, f"{inverse}{name}") for name in names for inverse in ("", "i")]


@means(*transforms("fft", "rfft"))
def transform(func: Any, x: Tensor, n: int | None = None, dim: int = -1, norm: Any = None) -> Tensor:
    return transform_of_many(func, x, n, (dim,), norm)


@means(*transforms("fft2", "rfft2", "fftn", "rfftn"))
def transform_of_many(func: Any, x: Tensor, s: Any = None, dim: Any = (-2, -1), norm: Any = None) -> Tensor:
    """Every number of what is transformed is in every number of the result."""
    keeps = list(keeps_of(x))
    whole(func.__name__, *(keeps[d] for d in dim))
    value = func(value_of(x, 0.0), s, dim[0] if func.__name__.endswith("fft") else dim, norm)
    for d in dim:
        keeps[d] = torch.ones(value.shape[d], dtype=torch.bool)
    return present(value, outer(keeps), func.__name__)


@means("view_as_real")
def as_pairs(func: Any, x: Tensor) -> Tensor:
    return present(func(value_of(x)), mask_of(x)[..., None].expand(*x.shape, 2), "view_as_real")


@means("view_as_complex")
def from_pairs(func: Any, x: Tensor) -> Tensor:
    whole("view_as_complex", keeps_of(x)[-1])
    return present(func(value_of(x)), mask_of(x)[..., 0], "view_as_complex")


@means("pad")
def pad(func: Any, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """What is padded is there."""
    if mode != "constant":
        raise NotImplementedError(f"the oracle has no meaning for padding by {mode}")
    keeps = list(keeps_of(x))
    for i in range(len(pad) // 2):
        keeps[-1 - i] = func(keeps[-1 - i].to(torch.uint8), pad[2 * i : 2 * i + 2], value=1).bool()
    return present(func(value_of(x), pad, value=value), outer(keeps), "pad")


# -- joining -----------------------------------------------------------------------------------------------------------


@means("add", "sub", "mul", "div", "true_divide", "pow", "maximum", "minimum", "where", "lerp", "addcmul", "clamp")
@means("copy", "fill", "zero", "masked_fill")
@means(
    "gt",
    "lt",
    "ge",
    "le",
    Tensor.__and__,
    Tensor.__rsub__,
    Tensor.__radd__,
    Tensor.__rmul__,
    Tensor.__pow__,
    Tensor.__rdiv__,
)
@means("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh")
@means(
    "softplus", "exp", "sqrt", "rsqrt", "abs", "neg", "square", "sin", "cos", "dropout", "log1p", "relu6", "softsign"
)
@means("sign", "complex", "real", "imag", *(getattr(Tensor, n).__get__ for n in ("real", "imag")))
def join(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Any number of tensors, element by element; a dimension of size 1 is stretched over what the others keep."""
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))  # type: ignore[no-untyped-call]
    for dim in range(-len(shape), 0):
        agree(func.__name__, *(keeps_of(x)[dim] for x in tensors if x.ndim >= -dim and x.shape[dim] == shape[dim]))
    mask = functools.reduce(torch.logical_and, (mask_of(x).expand(shape) for x in tensors))
    args, kwargs = pytree.tree_map(lambda v: left_of(value_of(v)), (args, kwargs))
    return present(func(*args, **kwargs), mask, func.__name__)


# -- reducing ----------------------------------------------------------------------------------------------------------


def _dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(x.ndim))
    return tuple(d % x.ndim for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))


def reduced(x: Tensor, value: Tensor, dim: Any, keepdim: bool, where: str) -> Tensor:
    return present(value, mask_of(x).any(_dims(x, dim), keepdim), where)


@means("max", "min")
def extremum(func: Any, x: Tensor, other: Tensor | None = None) -> Any:
    """Of all there is, or of two tensors."""
    if other is not None:
        return join(func, x, other)
    return func(value_of(x, -torch.inf if func.__name__ == "max" else torch.inf))


@means("sum", "amax", "amin", "logsumexp")
def reduce(func: Any, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    dims = _dims(x, dim)
    gone = {"sum": 0.0, "amin": torch.inf}.get(func.__name__, -torch.inf)
    return reduced(x, func(value_of(x, gone), dims, keepdim), dims, keepdim, func.__name__)


def mean_of(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """Plain mean of what is there (0 / 0 where nothing is)."""
    total: Tensor = value_of(x, 0.0).sum(dims, keepdim)
    return total / mask_of(x).sum(dims, keepdim)


@means("mean")
def mean(func: Any, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return reduced(x, mean_of(x, _dims(x, dim), keepdim), dim, keepdim, "mean")


@means("var", "std")
def variance(func: Any, x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    dims = _dims(x, dim)
    squares = torch.where(mask_of(x), value_of(x) - mean_of(x, dims, True), 0.0).square().sum(dims, keepdim)
    value = squares / (mask_of(x).sum(dims, keepdim) - correction)
    return reduced(x, value.sqrt() if func.__name__ == "std" else value, dim, keepdim, "var")


@means("norm")
def norm(func: Any, x: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    if p not in (2, "fro") or dtype is not None:
        raise NotImplementedError(f"the oracle has no meaning for a norm of order {p} and dtype {dtype}")
    return reduced(x, value_of(x, 0.0).square().sum(_dims(x, dim), keepdim).sqrt(), dim, keepdim, "norm")


@means("cumsum", "argmax", "sort", "topk", "local_response_norm")
def ordered(func: Any, x: Tensor, *args: Any, dim: int = 1, **kwargs: Any) -> Any:
    """Neighbours and positions matter along `dim`."""
    whole(func.__name__, keeps_of(x)[dim])
    return move(func, x, *args, dim=dim, **kwargs) if func.__name__ == "cumsum" else _refuse(func)


def _refuse(func: Any) -> Any:
    raise NotImplementedError(f"the oracle has no meaning for {func.__name__} of a tensor that is cut")
