"""Operations that take parts of a dimension: chunks, slices, single indices; and writing into them."""

from __future__ import annotations

from typing import Any

import torch

from prunetune.engine.labels import Labelled, LinearForm, Relation, Vec, plain
from prunetune.engine.rules.common import Size, is_weight, moved, moves, negative
from prunetune.engine.rules.context import Context
from prunetune.engine.rules.table import rule


@rule("chunk")
def chunk(ctx: Context, input: Labelled, chunks: Size, dim: Size = 0) -> tuple[Labelled, ...]:
    """Equal parts: the same position goes from each."""
    d = plain(dim) % input.ndim
    vec = ctx.vec(input, d)
    ctx.require(chunks, None)
    parts = [s[d] for s in ctx.shape]
    if len(set(parts)) > 1:
        ctx.freeze(vec, "split into unequal parts")
    elif vec is not None:
        ctx.across(vec, len(parts))
    return sections(ctx, input, d)


@rule("tensor_split")
def tensor_split(
    ctx: Context, input: Labelled, indices_or_sections: Any = None, dim: Size = 0, *, indices: Any = None, **kwargs: Any
) -> tuple[Labelled, ...]:
    """Equal parts, or parts that begin at the given indices, which must stay where they are."""
    cuts = indices if indices is not None else kwargs.get("sections", indices_or_sections)
    if not isinstance(cuts, (tuple, list)):
        return chunk(ctx, input, cuts, dim)
    vec = ctx.vec(input, plain(dim))
    for cut in cuts:
        if vec is not None and 0 < plain(cut) < len(vec):
            ctx.require(cut, vec[: plain(cut)])
        elif plain(cut) < 0:
            ctx.freeze(vec, "split at indices counted from the end")
            ctx.require(cut, None)
        else:
            ctx.require(cut, None)
    return sections(ctx, input, plain(dim) % input.ndim)


@rule("split", "split_with_sizes", "unsafe_split")
def split(ctx: Context, tensor: Labelled, split_size_or_sections: Any, dim: Size = 0, **kwargs: Any) -> Any:
    """Parts of the given sizes, which must stay right."""
    d = plain(dim) % tensor.ndim
    parts = sections(ctx, tensor, d)
    sizes = split_size_or_sections
    if not isinstance(sizes, (tuple, list)):
        n = plain(sizes)
        sizes = [sizes if part.shape[d] == n else None for part in parts]
    for size, part in zip(sizes, parts, strict=True):
        if size is not None:
            ctx.require(size, part.dims[d], part.shape[d])
    return parts


def sections(ctx: Context, input: Labelled, dim: int) -> tuple[Labelled, ...]:
    vecs = ctx.vecs(input)
    results = []
    start = 0
    for shape in ctx.shape:
        part = [None if v is None else v[start : start + shape[dim]] if i == dim else v for i, v in enumerate(vecs)]
        results.append(Labelled(shape, tuple(part), from_weights=is_weight(input)))
        start += shape[dim]
    return tuple(results)


@rule("unbind")
def unbind(ctx: Context, input: Labelled, dim: Size = 0) -> tuple[Labelled, ...]:
    d = plain(dim) % input.ndim
    ctx.freeze(ctx.vec(input, d), "taken apart one by one")
    vecs = [v for i, v in enumerate(ctx.vecs(input)) if i != d]
    return tuple(ctx.result(vecs, s) for s in ctx.shape)


@rule("narrow")
def narrow(ctx: Context, input: Labelled, dim: Size, start: Any, length: Size) -> Labelled:
    d = plain(dim) % input.ndim
    vecs = ctx.vecs(input)
    vecs[d] = _slice(ctx, vecs[d], slice(start, LinearForm.of(start).plus(LinearForm.of(length), 1)))
    return moved(ctx, input, vecs)


@rule("select")
def select(ctx: Context, input: Labelled, dim: Size, index: Size) -> Labelled:
    d = plain(dim) % input.ndim
    vecs = ctx.vecs(input)
    _pick(ctx, vecs.pop(d), index)
    return moved(ctx, input, vecs)


@rule(torch.Tensor.__getitem__)
def getitem(ctx: Context, input: Labelled, index: Any) -> Labelled:
    """Slices and single indices; an index tensor keeps the dimension it looks into whole."""
    return part_of(ctx, input, index, ctx.shape)


def part_of(ctx: Context, input: Labelled, index: Any, shape: tuple[int, ...]) -> Labelled:
    """Labels of `input[index]`, whose shape is `shape`."""
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(i, (Labelled, list)) for i in index):
        return _looked_up(ctx, input, index)
    vecs = ctx.vecs(input)
    used = sum(1 for i in index if i is not None and i is not Ellipsis)
    full: list[Any] = []
    for i in index:
        full.extend([slice(None)] * (input.ndim - used) if i is Ellipsis else [i])
    full.extend([slice(None)] * (input.ndim - sum(1 for i in full if i is not None)))
    dims: list[Vec | None] = []
    position = 0
    for i in full:
        if i is None:
            dims.append(None)
            continue
        vec = vecs[position]
        if isinstance(i, slice):
            dims.append(_slice(ctx, vec, i))
        else:
            _pick(ctx, vec, i)
        position += 1
    result = ctx.result(dims, shape)
    return Labelled(shape, result.dims, from_weights=is_weight(input))


def _looked_up(ctx: Context, input: Labelled, index: tuple[Any, ...]) -> Labelled:
    """Only dimensions that no index touches keep their labels, where they can be told apart by position."""
    vecs = ctx.vecs(input)
    simple = all(isinstance(i, (Labelled, list)) or i == slice(None) for i in index)
    tensors = [i for i in index if isinstance(i, Labelled)]
    for d, vec in enumerate(vecs):
        if (d < len(index) and index[d] != slice(None)) or not simple:
            ctx.freeze(vec, "looked up by index")
    ctx.freeze_all(tensors, "used as an index")
    if not simple:
        fixed: Labelled = ctx.fixed()
        return fixed
    tail = [v for d, v in enumerate(vecs) if d >= len(index)]
    lead = len(ctx.shape) - len(tail)
    return moved(ctx, input, [*[None] * lead, *tail]) if lead >= 0 else ctx.fixed()


def _slice(ctx: Context, vec: Vec | None, part: slice) -> Vec | None:
    """The labels in a slice, whose ends must stay where they are."""
    if part.step is not None and plain(part.step) != 1:
        ctx.keep_numbers((part.start, part.stop, part.step))
        return None if vec is None else _strided(ctx, vec, slice(*map(_end, (part.start, part.stop, part.step))))
    ctx.keep_numbers((part.step,))
    for end in (part.start, part.stop):
        if end is not None:
            _ends(ctx, vec, end)
    return None if vec is None else vec[slice(_end(part.start), _end(part.stop))]


def _ends(ctx: Context, vec: Vec | None, end: Size) -> None:
    """A slice begins or ends here: so many must stay before it, or after it if it is counted from the end."""
    n = plain(end)
    if vec is None or n == 0:
        ctx.require(end, None)
    elif n < 0:
        ctx.require(negative(end), vec[n:])
    elif n <= len(vec):
        if n < len(vec) or not LinearForm.of(end).fixed:
            ctx.require(end, vec[:n])
    else:  # beyond the last one, wherever that is
        count = LinearForm.count(vec, len(vec))
        ctx.space.require(end, count, ctx.where, relation=Relation.NOT_NEGATIVE)


def _end(end: Any) -> int | None:
    return None if end is None else plain(end)


def _strided(ctx: Context, vec: Vec, part: slice) -> Vec:
    """Every n-th index: n neighbours go together."""
    n, start = part.step, part.start or 0
    if len(vec) % n or not 0 <= start < n or part.stop is not None:
        ctx.freeze(vec, "sliced with a step")
        return vec[part]
    ctx.space.tie(vec.reshape(-1, n)[:, 1:], vec.reshape(-1, n)[:, :1])
    return vec[part]


def _pick(ctx: Context, vec: Vec | None, index: Size) -> None:
    """One index is taken by its number: it must stay, and so many before it (or after it, counted from the end)."""
    i = plain(index)
    if vec is None:
        ctx.require(index, None)
        return
    here = vec[i:][:1]
    ctx.freeze(here, "one index is taken by its number")
    others = vec[:i] if i >= 0 else vec[i:][1:]
    if moves(index):
        ctx.require(index if i >= 0 else negative(LinearForm.of(index).plus(LinearForm.of(1), 1)), others)
    else:
        ctx.freeze(others, "one index is taken by its number")


@rule(torch.Tensor.__setitem__)
def setitem(ctx: Context, input: Labelled, index: Any, value: Any) -> Labelled:
    """What is written is cut as what it is written into."""
    if isinstance(value, Labelled):
        target = _target_of(ctx, input, index, value)
        for d in range(-min(target.ndim, value.ndim), 0):
            if value.shape[d] > 1 and target.shape[d] == value.shape[d]:
                left, right = ctx.vec(target, d), ctx.vec(value, d)
                if left is not None or right is not None:
                    ctx.tie(left, right)
    return Labelled(input.shape, tuple(ctx.vecs(input)))


def _target_of(ctx: Context, input: Labelled, index: Any, value: Labelled) -> Labelled:
    """The part of `input` that `index` names."""
    if isinstance(index, Labelled) and index.ndim == 1:  # rows by number, or a mask over the rows
        ctx.freeze_all([index], "used as an index")
        vecs = ctx.vecs(input)
        ctx.freeze(vecs[0], "written to by index")
        return Labelled(input.shape, (None, *vecs[1:]))
    plain_index = _plain_index(index)
    if plain_index is None:
        ctx.freeze_all([input, value], "written to by index")
        return Labelled(value.shape, (None,) * value.ndim)
    part = torch.empty(input.shape, device="meta")[plain_index]
    return part_of(ctx, input, index, tuple(part.shape))


def _plain_index(index: Any) -> Any:
    """The index with plain numbers, or None if it holds tensors."""
    if isinstance(index, (Labelled, list)):
        return None
    if isinstance(index, tuple):
        parts = [_plain_index(i) if i is not None else None for i in index]
        return None if any(isinstance(i, (Labelled, list)) for i in index) else tuple(parts)
    if isinstance(index, slice):
        return slice(_end(index.start), _end(index.stop), _end(index.step))
    return plain(index) if isinstance(index, (int, LinearForm)) and not isinstance(index, bool) else index


@rule("gather", "take_along_dim", "index_select", "scatter", "scatter_add", "index_add", "index_copy")
def indexed(ctx: Context, input: Labelled, dim: Any, index: Labelled, *args: Any, **kwargs: Any) -> Any:
    """The dimension that is looked into stays whole, the others are kept by an `index_select`."""
    if ctx.node.target in (torch.index_select, torch.Tensor.index_select):
        vecs = ctx.vecs(input)
        ctx.freeze(vecs[plain(dim)], "looked up by index")
        vecs[plain(dim)] = None
        return moved(ctx, input, vecs)
    ctx.freeze_all([t for t in (input, index, *args) if isinstance(t, Labelled)], "looked up by index")
    return ctx.fixed()
