"""Operations that look up or write by tensors of indices: what is addressed stays whole, all else passes through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prunetune.engine.labels import Labelled, Vec, plain
from prunetune.engine.rules.common import Size, is_weight, moved
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.elementwise import join_dim
from prunetune.engine.rules.parts import pick, plain_slice, slice_of
from prunetune.engine.rules.table import rule

ADDRESSED = "addressed by indices"


@rule("index_select")
def index_select(ctx: RuleContext, input: Labelled, dim: Size, index: Labelled) -> Labelled:
    """Whole slices along `dim`, by number."""
    return _moved_from(ctx, input, plain(dim), [index])


@rule("index_add", "index_copy", "index_reduce")
def index_write(
    ctx: RuleContext, input: Labelled, dim: Size, index: Labelled, source: Labelled, *args: Any, **kwargs: Any
) -> Labelled:
    """Slices of `source` go into slices of `input` along `dim`; all other dimensions are cut alike."""
    ctx.freeze(ctx.vec(source, plain(dim)), ADDRESSED)
    _alike(ctx, input, source, plain(dim))
    return _moved_from(ctx, input, plain(dim), [index])


@rule("index_fill")
def index_fill(ctx: RuleContext, input: Labelled, dim: Size, index: Labelled, value: Any) -> Labelled:
    """A number goes into slices of `input`."""
    return _moved_from(ctx, input, plain(dim), [index])


@rule("gather")
def gather(ctx: RuleContext, input: Labelled, dim: Size, index: Labelled, **kwargs: Any) -> Labelled:
    """Along dimension 0 it is input[index[i][j]][j]: in all others `index` and `input` are cut alike."""
    _alike(ctx, input, index, plain(dim))
    ctx.freeze(ctx.vec(input, plain(dim)), ADDRESSED)
    return _moved_from(ctx, index, plain(dim), [], weights=is_weight(input))


@rule("take_along_dim")
def take_along_dim(ctx: RuleContext, input: Labelled, indices: Labelled, dim: Size | None = None) -> Labelled:
    """As `gather`, with the index second; a dimension of size 1 is stretched to the other's."""
    if dim is None:
        ctx.freeze_all([input, indices], ADDRESSED)
        return ctx.fixed()  # type: ignore[no-any-return]
    d = plain(dim) % input.ndim
    for tensor in (input, indices):
        ctx.freeze(ctx.vec(tensor, d), ADDRESSED)
    dims: list[Vec | None] = [None] * input.ndim
    for i in range(input.ndim):
        if i != d and ctx.shape[i] > 1:
            dims[i] = join_dim(ctx, [t for t in (input, indices) if t.shape[i] == ctx.shape[i]], i)
    return moved(ctx, input, dims)


@rule("scatter", "scatter_add", "scatter_reduce")
def scatter(ctx: RuleContext, input: Labelled, dim: Size, index: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """The way back from `gather`: `index`, what is written and what it is written into are cut alike."""
    sources = [s for s in (*args, *kwargs.values()) if isinstance(s, Labelled)]
    for tensor in (index, *sources):
        _alike(ctx, input, tensor, plain(dim))
        ctx.freeze(ctx.vec(tensor, plain(dim)), ADDRESSED)
    return _moved_from(ctx, input, plain(dim), [])


def _alike(ctx: RuleContext, input: Labelled, other: Labelled, dim: int) -> None:
    """All dimensions but `dim` are cut alike; where `other` has fewer indices, it has the first ones, and they stay."""
    for d in range(input.ndim):
        if d == dim % input.ndim:
            continue
        if other.shape[d] != input.shape[d]:
            for tensor in (input, other):
                ctx.freeze(ctx.vec(tensor, d), "only its first indices are used")
        elif ctx.vec(input, d) is not None or ctx.vec(other, d) is not None:
            ctx.tie(ctx.vec(input, d), ctx.vec(other, d))


def _moved_from(
    ctx: RuleContext, input: Labelled, dim: int, indices: Sequence[Labelled], *, weights: bool | None = None
) -> Labelled:
    """The input's labels, but for `dim`, which stays whole as do the indices."""
    ctx.freeze_all(indices, "used as an index")
    vecs = ctx.vecs(input)
    ctx.freeze(vecs[dim], ADDRESSED)
    vecs[dim] = None
    result = moved(ctx, input, vecs)
    return result if weights is None else Labelled(result.shape, result.dims, from_weights=weights)


# -- x[index] ----------------------------------------------------------------------------------------------------------


@rule(torch.Tensor.__getitem__)
def getitem(ctx: RuleContext, input: Labelled, index: Any) -> Labelled:
    """Slices and single indices; what a tensor of indices or a mask addresses stays whole."""
    dims = _read(ctx, input, [o for o in _outcomes(input, index) if o.fits(ctx.shape)], len(ctx.shape))
    return moved(ctx, input, dims)


@rule(torch.Tensor.__setitem__)
def setitem(ctx: RuleContext, input: Labelled, index: Any, value: Any) -> Labelled:
    """What is written is cut as what it is written into."""
    value = value if isinstance(value, Labelled) else Labelled((), ())
    outcomes = [o for o in _outcomes(input, index) if o.takes(value.shape)]
    for d, vec in zip(range(-value.ndim, 0), _read(ctx, input, outcomes, value.ndim), strict=True):
        broadcast = value.shape[d] == 1 and any(o.shape[d] != 1 for o in outcomes)
        if not broadcast and (vec is not None or ctx.vec(value, d) is not None):
            ctx.tie(vec, ctx.vec(value, d))
    return Labelled(input.shape, tuple(ctx.vecs(input)))


def _read(ctx: RuleContext, input: Labelled, outcomes: Sequence[_Outcome], ndim: int) -> list[Vec | None]:
    """Labels of the last `ndim` dimensions of `input[index]`; all of it stays if its readings say different things."""
    vecs = ctx.vecs(input)
    for outcome in outcomes:
        for spot in outcome.spots:
            if isinstance(spot.entry, Labelled):
                ctx.freeze_all([spot.entry], "used as an index")
                ctx.freeze(None if spot.dim is None else vecs[spot.dim], ADDRESSED)
            elif spot.picks and spot.dim is not None:
                pick(ctx, vecs[spot.dim], spot.entry)
    found = []
    for outcome in outcomes:
        places = outcome.places[len(outcome.places) - ndim :]
        found.append([None if s is None or s.dim is None else slice_of(ctx, vecs[s.dim], s.entry) for s in places])
    if len({tuple(None if vec is None else vec.tobytes() for vec in dims) for dims in found}) != 1:
        ctx.freeze_all([input], ADDRESSED)
        return [None] * ndim
    return found[0]


@dataclass(frozen=True)
class _Spot:
    """One entry of an index, and the dimension that it is about (None: a new one)."""

    entry: Any
    dim: int | None

    @property
    def addresses(self) -> bool:
        """Whether it is a tensor of indices or a mask; a single index may be a tensor, too."""
        return isinstance(self.entry, Labelled) and self.entry.ndim > 0

    @property
    def picks(self) -> bool:
        return self.dim is not None and not isinstance(self.entry, slice) and not self.addresses


@dataclass(frozen=True)
class _Outcome:
    """One way to read an index: `spots` in their order, `places` of the result, and what of its shape is known."""

    spots: tuple[_Spot, ...]
    places: tuple[_Spot | None, ...]
    """None for a dimension that the indices have."""
    shape: tuple[int | None, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        return len(shape) == len(self.shape) and all(n in (None, m) for n, m in zip(self.shape, shape, strict=True))

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a value of this shape can be written there."""
        own = self.shape[len(self.shape) - len(shape) :] if shape else ()
        return len(shape) <= len(self.shape) and all(m == 1 or n in (None, m) for n, m in zip(own, shape, strict=True))


def _outcomes(input: Labelled, index: Any) -> Iterator[_Outcome]:
    """All readings of an index: nobody says whether a tensor holds numbers or is a mask over several dimensions."""
    entries = [_entry(e) for e in (index if isinstance(index, tuple) else (index,))]
    tensors = [i for i, e in enumerate(entries) if isinstance(e, Labelled) and e.ndim]
    for kinds in itertools.product((False, True), repeat=len(tensors)):
        masks = {i for i, mask in zip(tensors, kinds, strict=True) if mask}
        spots = _spots(entries, masks, input.ndim)
        if spots is None or not all(_covers(entries[i], spots, input) for i in masks):
            continue
        try:
            block: list[int | None] = list(
                np.broadcast_shapes(*(entries[i].shape for i in tensors if i not in masks), *[(1,)] * bool(masks))
            )
        except ValueError:
            continue
        if masks:
            block[-1] = None  # as many as are true
        left = [s for s in spots if not s.picks]
        addressing = [i for i, s in enumerate(left) if s.addresses]
        together = not addressing or addressing[-1] - addressing[0] == len(addressing) - 1
        first = addressing[0] if together and addressing else 0
        rest = [(s, _size(input, s)) for s in left if not s.addresses]
        new: list[tuple[_Spot | None, int | None]] = [(None, n) for n in block]
        both = [*rest[:first], *new, *rest[first:]]
        yield _Outcome(tuple(spots), tuple(s for s, _ in both), tuple(n for _, n in both))


def _entry(entry: Any) -> Any:
    """A list of indices is a tensor."""
    return Labelled(np.shape(entry), (None,) * np.ndim(entry)) if isinstance(entry, list) else entry


def _spots(entries: Sequence[Any], masks: set[int], ndim: int) -> list[_Spot] | None:
    """The entries by dimension; a mask over k dimensions stands for k of them."""
    if not any(e is Ellipsis for e in entries):
        entries = [*entries, Ellipsis]
    widths = [0 if e is None or e is Ellipsis else e.ndim if i in masks else 1 for i, e in enumerate(entries)]
    missing, dim = ndim - sum(widths), 0
    if missing < 0:
        return None
    spots: list[_Spot] = []
    for entry, width in zip(entries, widths, strict=True):
        if entry is None:
            spots.append(_Spot(None, None))
            continue
        n = missing if entry is Ellipsis else width
        spots.extend(_Spot(slice(None) if entry is Ellipsis else entry, dim + i) for i in range(n))
        dim += n
    return spots


def _covers(mask: Labelled, spots: Sequence[_Spot], input: Labelled) -> bool:
    """Whether a mask has the shape of what it masks."""
    return mask.shape == tuple(input.shape[s.dim] for s in spots if s.entry is mask and s.dim is not None)


def _size(input: Labelled, spot: _Spot) -> int:
    return 1 if spot.dim is None else len(range(input.shape[spot.dim])[plain_slice(spot.entry)])
