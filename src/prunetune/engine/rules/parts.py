"""Operations that take parts of a dimension: chunks, slices, single indices; and writing into them."""

from __future__ import annotations

from typing import Any

from prunetune.engine.labels import Labelled, LinearForm, Relation, Vec, plain
from prunetune.engine.rules.common import Size, moves, negative
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.table import rule


@rule("chunk")
def chunk(ctx: RuleContext, input: Labelled, chunks: Size, dim: Size = 0) -> tuple[Labelled, ...]:
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
    ctx: RuleContext,
    input: Labelled,
    indices_or_sections: Any = None,
    dim: Size = 0,
    *,
    indices: Any = None,
    **kwargs: Any,
) -> tuple[Labelled, ...]:
    """Equal parts, or parts that begin at the given indices, which must stay where they are."""
    cuts = indices if indices is not None else kwargs.get("sections", indices_or_sections)
    if not isinstance(cuts, (tuple, list)):
        return chunk(ctx, input, cuts, dim)
    vec = ctx.vec(input, plain(dim))
    for cut in cuts:
        if vec is not None and 0 < plain(cut) < len(vec):
            ctx.require(cut, vec[: plain(cut)])
            continue
        ctx.require(cut, None)
        if plain(cut) < 0:
            ctx.freeze(vec, "split at indices counted from the end")
    return sections(ctx, input, plain(dim) % input.ndim)


@rule("split", "split_with_sizes", "unsafe_split")
def split(ctx: RuleContext, tensor: Labelled, *args: Any, dim: Size = 0, **kwargs: Any) -> Any:
    """Parts of the given sizes, which must stay right."""
    sizes, *place = (*kwargs.values(), *args)  # torch has three names for the sizes
    dim = place[0] if place else dim
    d = plain(dim) % tensor.ndim
    parts = sections(ctx, tensor, d)
    if not isinstance(sizes, (tuple, list)):
        n = plain(sizes)
        sizes = [sizes if part.shape[d] == n else None for part in parts]
    for size, part in zip(sizes, parts, strict=True):
        if size is not None:
            ctx.require(size, part.dims[d], part.shape[d])
    return parts


def sections(ctx: RuleContext, input: Labelled, dim: int) -> tuple[Labelled, ...]:
    vecs = ctx.vecs(input)
    results = []
    start = 0
    for shape in ctx.shape:
        part = [None if v is None else v[start : start + shape[dim]] if i == dim else v for i, v in enumerate(vecs)]
        results.append(Labelled(shape, tuple(part)))
        start += shape[dim]
    return tuple(results)


@rule("unbind")
def unbind(ctx: RuleContext, input: Labelled, dim: Size = 0) -> tuple[Labelled, ...]:
    d = plain(dim) % input.ndim
    ctx.freeze(ctx.vec(input, d), "taken apart one by one")
    vecs = [v for i, v in enumerate(ctx.vecs(input)) if i != d]
    return tuple(ctx.result(vecs, s) for s in ctx.shape)


@rule("narrow")
def narrow(ctx: RuleContext, input: Labelled, dim: Size, start: Any, length: Size) -> Labelled:
    d = plain(dim) % input.ndim
    vecs = ctx.vecs(input)
    vecs[d] = slice_of(ctx, vecs[d], slice(start, LinearForm.of(start).plus(LinearForm.of(length), 1)))
    return ctx.result(vecs)


@rule("select")
def select(ctx: RuleContext, input: Labelled, dim: Size, index: Size) -> Labelled:
    d = plain(dim) % input.ndim
    vecs = ctx.vecs(input)
    pick(ctx, vecs.pop(d), index)
    return ctx.result(vecs)


def slice_of(ctx: RuleContext, vec: Vec | None, part: slice) -> Vec | None:
    """The labels in a slice, whose ends must stay where they are."""
    if part.step is not None and plain(part.step) != 1:
        ctx.keep_numbers((part.start, part.stop, part.step))
        return None if vec is None else _strided(ctx, vec, plain_slice(part))
    ctx.keep_numbers((part.step,))
    for end in (part.start, part.stop):
        if end is not None:
            _ends(ctx, vec, end)
    return None if vec is None else vec[plain_slice(part)]


def _ends(ctx: RuleContext, vec: Vec | None, end: Size) -> None:
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


def plain_slice(part: slice) -> slice:
    """The slice with plain numbers."""
    return slice(*(_end(end) for end in (part.start, part.stop, part.step)))


def _end(end: Any) -> int | None:
    return None if end is None else plain(end)


def _strided(ctx: RuleContext, vec: Vec, part: slice) -> Vec:
    """Every n-th index: n neighbours go together."""
    n, start = part.step, part.start or 0
    if len(vec) % n or not 0 <= start < n or part.stop is not None:
        ctx.freeze(vec, "sliced with a step")
        return vec[part]
    ctx.space.tie(vec.reshape(-1, n)[:, 1:], vec.reshape(-1, n)[:, :1])
    return vec[part]


def pick(ctx: RuleContext, vec: Vec | None, index: Size) -> None:
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
