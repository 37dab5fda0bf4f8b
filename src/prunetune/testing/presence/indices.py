"""What indices mean for tensors that know what is gone: numbers address the places of what is left, so all is there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunetune.testing.presence.tensors import (
    Keep,
    Mismatch,
    Present,
    agree,
    keeps_of,
    mask_of,
    means,
    outer,
    present,
    value_of,
    whole,
    written,
)


@means("zeros_like", "ones_like", "full_like")
def alike(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return present(func(value_of(x), *args, **kwargs), mask_of(x), func.__name__)


def _others(where: str, dim: int, *keeps: tuple[Keep, ...]) -> None:
    """Along `dim` all is there, and along the other dimensions the same."""
    for d, parts in enumerate(zip(*keeps, strict=True)):
        if d == dim % len(keeps[0]):
            whole(where, *parts)
        else:
            agree(where, *parts)


@means("index_select")
def index_select(func: Any, x: Tensor, dim: int, index: Tensor) -> Tensor:
    whole("index_select", keeps_of(x)[dim])
    return present(func(value_of(x), dim, index), func(mask_of(x), dim, index), "index_select")


@means("index_add", "index_copy", "index_reduce")
def index_write(func: Any, x: Tensor, dim: int, index: Tensor, source: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    _others(func.__name__, dim, keeps_of(x), keeps_of(source))
    operands = value_of(x, 0.0), dim, index, value_of(source, 0.0)
    value = getattr(torch, func.__name__.rstrip("_"))(*operands, *args, **kwargs)
    return present(value, mask_of(x), func.__name__)


def _columns(where: str, dim: int, keeps: tuple[Keep, ...], index: Tensor) -> None:
    """An index that does not know what is gone must say the same to all that it says anything to."""
    for d, keep in enumerate(keeps):
        if d == dim % index.ndim:
            continue
        if isinstance(index, Present):
            agree(where, keep, keeps_of(index)[d])
        elif not bool(keep.all()) and not torch.equal(index, index.narrow(d, 0, 1).expand_as(index)):
            raise Mismatch(f"{where}: every channel has indices of its own, and some are gone")


@means("gather")
def gather(func: Any, x: Tensor, dim: int, index: Tensor) -> Tensor:
    whole("gather", keeps_of(x)[dim])
    _columns("gather", dim, keeps_of(x), index)
    keeps = list(keeps_of(x))
    keeps[dim] = keeps_of(index)[dim]
    return present(func(value_of(x), dim, value_of(index)), outer(keeps), "gather")


@means("take_along_dim")
def take_along_dim(func: Any, x: Tensor, index: Tensor, dim: int) -> Tensor:
    others = [1 if d == dim % x.ndim else n for d, n in enumerate(x.shape)]
    wide = index.expand([max(n, m) for n, m in zip(others, index.shape, strict=True)])
    return gather(torch.gather, x, dim, wide)


@means("scatter", "scatter_add", "scatter_reduce")
def scatter(func: Any, x: Tensor, dim: int, index: Tensor, source: Any, *args: Any, **kwargs: Any) -> Tensor:
    whole(func.__name__, keeps_of(x)[dim])
    _columns(func.__name__, dim, keeps_of(x), index)
    if isinstance(source, Tensor):
        _others(func.__name__, dim, keeps_of(x), keeps_of(source))
    operands = value_of(x, 0.0), dim, value_of(index), value_of(source, 0.0)
    value = getattr(torch, func.__name__.rstrip("_"))(*operands, *args, **kwargs)
    return present(value, mask_of(x), func.__name__)


@means(Tensor.__setitem__)
def setitem(func: Any, x: Tensor, index: Any, value: Any) -> None:
    """What is written is there exactly where the place for it is."""
    if not isinstance(x, Present):
        raise NotImplementedError("the oracle cannot make gaps in a tensor that has none")
    addressed = [i for i, e in enumerate(index if isinstance(index, tuple) else (index,)) if not isinstance(e, slice)]
    masks = [e.ndim for e in (index if isinstance(index, tuple) else (index,)) if isinstance(e, Tensor)]
    whole("written to by index", *keeps_of(x)[: max([*(i + 1 for i in addressed), *masks], default=0)])
    place = mask_of(x)[index]
    if isinstance(value, Tensor) and not torch.equal(mask_of(value).expand_as(place), place):
        raise Mismatch("what is written is not what there is a place for")
    changed = x.value.clone()
    changed[index] = value_of(value)
    written(x, present(changed, x.mask, "written to by index"))
