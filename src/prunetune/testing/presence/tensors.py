"""What a cut network must compute, found without the engine: the original, run on tensors that know what is gone.

`Present` is a tensor with a second one of its shape that says, element by element, what is still there. It goes through
the original model's own code; every torch function has a meaning here that follows from the element-wise picture alone:

* what only moves data moves both tensors by the very same function;
* what joins tensors demands that the same elements are there on all sides, else the cut is a `Mismatch`;
* what sums over elements, and what normalises by them, sees only those that are there.

Of the engine's work nothing is read but the plan's kept indices of the parameters and buffers. What is gone holds NaN,
so that an oversight here would be seen and could not pass for a right answer. A function without a meaning raises.
"""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune.engine import PruningPlan

Keep: TypeAlias = Tensor
"""For every index of one dimension, whether it is there (bool)."""

Meaning: TypeAlias = Callable[..., Any]
"""`meaning(function, *args, **kwargs)` with the arguments of the torch function."""

MEANINGS: dict[Any, Meaning] = {}


class Mismatch(AssertionError):
    """The plan keeps things that do not fit together."""


class Present(Tensor):
    """A tensor some of whose indices are gone; made by `present`."""

    value: Tensor
    """NaN where it is gone."""
    mask: Tensor
    """True where it is there; of the tensor's own shape."""
    keeps: tuple[Keep, ...]
    """The same for each dimension: `mask` is their outer product, as the cut network's tensors are dense."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        meaning = MEANINGS.get(func)
        if meaning is None:
            raise NotImplementedError(f"the oracle has no meaning for {getattr(func, '__name__', func)}")
        result = meaning(func, *args, **(kwargs or {}))
        in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
        return written(args[0], result) if in_place else result


def present(value: Tensor, mask: Tensor, where: str) -> Tensor:
    """A `Present`, or the plain value if nothing of it is gone."""
    if bool(mask.all()):
        return value
    keeps = tuple(mask.any(tuple(o for o in range(mask.ndim) if o != d)) for d in range(mask.ndim))
    if not all(bool(k.any()) for k in keeps):
        raise Mismatch(f"{where}: nothing is left of a tensor of shape {tuple(value.shape)}")
    if not torch.equal(outer(keeps), mask):
        raise Mismatch(f"{where}: what is left of a tensor of shape {tuple(value.shape)} is not dense")
    if (value.is_floating_point() or value.is_complex()) and not bool(value[~mask].isnan().all()):
        value = torch.where(mask, value, torch.nan)  # otherwise a view stays a view: what is written to it is written
    result: Present = Tensor._make_subclass(Present, value)
    result.value, result.mask, result.keeps = value, mask, keeps
    return result


def written(x: Tensor, result: Tensor) -> Tensor:
    """`x`, after it was written to; where it is gone it holds NaN as before."""
    if not torch.equal(mask_of(x), mask_of(result)):
        raise Mismatch("what is written is not what there is a place for")
    value_of(x).copy_(value_of(result))
    return x


def outer(keeps: Iterable[Keep]) -> Tensor:
    """The mask of which these are the dimensions."""
    keeps = list(keeps)
    masks = (k.reshape([-1 if i == d else 1 for i in range(len(keeps))]) for d, k in enumerate(keeps))
    return functools.reduce(torch.logical_and, masks)


def value_of(x: Any, gone: float | None = None) -> Any:
    """The plain tensor, with `gone` (unless None) where an element is gone; anything else as it is."""
    if not isinstance(x, Present):
        return x
    return x.value if gone is None else torch.where(x.mask, x.value, gone)


def mask_of(x: Tensor) -> Tensor:
    return x.mask if isinstance(x, Present) else torch.ones(x.shape, dtype=torch.bool)


def keeps_of(x: Tensor) -> tuple[Keep, ...]:
    return x.keeps if isinstance(x, Present) else tuple(torch.ones(n, dtype=torch.bool) for n in x.shape)


def agree(where: str, *keeps: Keep) -> None:
    """Raise Mismatch unless all are the same."""
    for first, other in itertools.pairwise(keeps):
        if not torch.equal(first, other):
            kept = [torch.nonzero(k).flatten().tolist() for k in (first, other)]
            raise Mismatch(f"{where}: {kept[0]} of {len(first)} meet {kept[1]} of {len(other)}")


def whole(where: str, *keeps: Keep) -> None:
    """Raise Mismatch if anything of these dimensions is gone: their order or their number matters here."""
    for keep in keeps:
        if not bool(keep.all()):
            raise Mismatch(f"{where}: indices are gone from a dimension that must stay as it is")


def functions(*names: str) -> list[Any]:
    """All torch functions of these names, wherever they live, and their forms in place."""
    places = (torch, Tensor, nn.functional, torch._C._nn)
    found = [getattr(p, v) for n in names for p in places for v in (n, f"{n}_") if callable(getattr(p, v, None))]
    assert found, names
    return found


def means(*targets: Any) -> Callable[[Meaning], Meaning]:
    """Register the meaning of these functions; a string stands for all torch functions of that name."""

    def register(meaning: Meaning) -> Meaning:
        for target in targets:
            for key in functions(target) if isinstance(target, str) else [target]:
                assert MEANINGS.setdefault(key, meaning) is meaning, key
        return meaning

    return register


# -- facts of the tensor itself ----------------------------------------------------------------------------------------


class Count(int):
    """The size of a dimension with gaps. Code computes with the whole; as a factor of values it is what is there."""

    left: Any


class Ratio(float):
    """What code computes from such sizes."""

    left: Any


def left_of(number: Any) -> Any:
    """The number as a factor of values."""
    return number.left if isinstance(number, (Count, Ratio)) else number


def _both(value: Any, left: Any) -> Any:
    result = Count(value) if isinstance(value, int) else Ratio(value)
    result.left = left
    return result


def _computed(function: Any, reflected: bool) -> Any:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        a, b = (other, self) if reflected else (self, other)
        plain = [float(n) if isinstance(n, Ratio) else int.__int__(n) if isinstance(n, Count) else n for n in (a, b)]
        return _both(function(*plain), function(left_of(a), left_of(b)))

    return method


for _kind in (Count, Ratio):
    for _function in (operator.add, operator.sub, operator.mul, operator.truediv, pow):
        setattr(_kind, f"__{_function.__name__}__", _computed(_function, reflected=False))
        setattr(_kind, f"__r{_function.__name__}__", _computed(_function, reflected=True))
Count.__float__ = lambda self: float(self.left)  # type: ignore[method-assign]  # for math.sqrt


@means(Tensor.shape.__get__)
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


@means("to", "double")
def of_type(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return present(func(value_of(x), *args, **kwargs), mask_of(x), func.__name__)


@means("view_as", "reshape_as")
def view_as(func: Any, x: Tensor, other: Tensor) -> Tensor:
    return move(Tensor.reshape, x, tuple(other.shape))


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
    assert mode == "constant"
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
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
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
def extremum(func: Any, x: Tensor, other: Tensor | None = None) -> Tensor:
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
    return value_of(x, 0.0).sum(dims, keepdim) / mask_of(x).sum(dims, keepdim)


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
    assert p in (2, "fro") and dtype is None
    return reduced(x, value_of(x, 0.0).square().sum(_dims(x, dim), keepdim).sqrt(), dim, keepdim, "norm")


@means("cumsum", "argmax", "sort", "topk", "local_response_norm")
def ordered(func: Any, x: Tensor, *args: Any, dim: int = 1, **kwargs: Any) -> Any:
    """Neighbours and positions matter along `dim`."""
    whole(func.__name__, keeps_of(x)[dim])
    return move(func, x, *args, dim=dim, **kwargs) if func.__name__ == "cumsum" else _refuse(func)


def _refuse(func: Any) -> Any:
    raise NotImplementedError(f"the oracle has no meaning for {func.__name__} of a tensor that is cut")


# -- the whole ---------------------------------------------------------------------------------------------------------


def with_gaps(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """A copy of `model` whose parameters and buffers are `Present` where `plan` cuts them."""
    import presence_indices  # noqa: F401  registers the meanings of indices, and the next of layers
    import presence_layers  # noqa: F401

    memo: dict[int, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in plan.tensors:
            keeps = [torch.ones(n, dtype=torch.bool) for n in tensor.shape]
            for dim, kept in plan.tensors[name].keep.items():
                keeps[dim] = torch.zeros(tensor.shape[dim], dtype=torch.bool)
                keeps[dim][list(kept)] = True
            memo[id(tensor)] = present(tensor.detach().clone(), outer(keeps), name)
        else:
            memo[id(tensor)] = tensor
    return copy.deepcopy(model, memo)


def compact(x: Tensor) -> Tensor:
    """What is there, without gaps."""
    value = value_of(x)
    for dim, keep in enumerate(keeps_of(x)):
        value = value.index_select(dim, torch.nonzero(keep).flatten())
    return value


def expected(model: nn.Module, plan: PruningPlan, inputs: Any) -> list[Tensor]:
    """The outputs of `model` in evaluation mode as they must be after the cut. Raises Mismatch if there are none."""
    with torch.no_grad():
        gapped = with_gaps(model, plan).eval()
        out = gapped(*inputs) if isinstance(inputs, (tuple, list)) else gapped(inputs)
    return [compact(leaf) for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]
