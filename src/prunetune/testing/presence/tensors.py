"""Tensors that know, element by element, what is gone, and the table of what torch functions mean for them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from prunetune.errors import InputError

Keep: TypeAlias = Tensor
"""For every index of one dimension, whether it is there (bool)."""

Meaning: TypeAlias = Callable[..., Any]
"""`meaning(called, *args, **kwargs)`: the torch function or the module that is called, and its arguments."""

M = TypeVar("M", bound=Meaning)

MEANINGS: dict[Any, Meaning] = {}


MANY = 20
"""So many indices say what is meant."""


def meaning_of(function: Any) -> Meaning:
    """The meaning of a function that was called; custom operators are known by their full name."""
    found = MEANINGS.get(function)
    if found is None and isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        packet = function.overloadpacket if isinstance(function, torch._ops.OpOverload) else function
        found = MEANINGS.get(packet._qualified_op_name)
    if found is None:
        raise NotImplementedError(
            f"the oracle has no meaning for {getattr(function, '__name__', function)}; "
            "prunetune.testing.means gives it one"
        )
    return found


def meaning_of_module(kind: type[nn.Module]) -> Meaning | None:
    """The meaning of a class of modules, or of the nearest class it is derived from."""
    return next((MEANINGS[c] for c in kind.__mro__ if c in MEANINGS), None)


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
        result = meaning_of(func)(func, *args, **(kwargs or {}))
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
            shown = [f"{each[:MANY]}{'…' if len(each) > MANY else ''}" for each in kept]
            raise Mismatch(f"{where}: {shown[0]} of {len(first)} meet {shown[1]} of {len(other)}")


def whole(where: str, *keeps: Keep) -> None:
    """Raise Mismatch if anything of these dimensions is gone: their order or their number matters here."""
    for keep in keeps:
        if not bool(keep.all()):
            raise Mismatch(f"{where}: indices are gone from a dimension that must stay as it is")


def functions(*names: str) -> list[Any]:
    """All torch functions of these names, wherever they live, and their forms in place."""
    places = (torch, Tensor, nn.functional, torch._C._nn)
    found = [getattr(p, v) for n in names for p in places for v in (n, f"{n}_") if callable(getattr(p, v, None))]
    if not found:
        raise InputError(f"torch has no function {', '.join(names)}")
    return found


def means(*targets: Any) -> Callable[[M], M]:
    """Register what these functions, or these classes of modules, do to tensors some of whose indices are gone.

    For an operation that the oracle cannot look into, as a kernel of one's own, the meaning is a reference
    implementation in torch's functions: the oracle knows what these mean.

    Parameters
    ----------
    targets
        As those of `prunetune.engine.rule`: functions, names of torch functions, custom operators as `"library::name"`,
        classes of modules. The meaning is called with the function or the module, and then its arguments.

    Example
    -------
    >>> from torch import nn
    >>> class Fast(nn.Module): ...
    >>> @means(Fast)
    ... def fast(module, x):
    ...     return x @ module.weight
    >>> del MEANINGS[Fast]
    """

    def register(meaning: M) -> M:
        for target in targets:
            named = isinstance(target, str) and "::" not in target
            for key in functions(target) if named else [target]:
                if MEANINGS.setdefault(key, meaning) is not meaning:
                    raise InputError(f"{key!r} has a meaning already")
        return meaning

    return register


def compact(x: Tensor) -> Tensor:
    """What is there, without gaps."""
    value: Tensor = value_of(x)
    for dim, keep in enumerate(keeps_of(x)):
        value = value.index_select(dim, torch.nonzero(keep).flatten())
    return value
