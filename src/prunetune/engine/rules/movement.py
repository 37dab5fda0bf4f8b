"""Operations that only move data. Labels are an array and go through the same operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from prunetune.engine.labels import Labelled, LinearForm, Vec, plain, plain_all
from prunetune.engine.rules.context import Context
from prunetune.engine.rules.elementwise import join_dim
from prunetune.engine.rules.table import rule

Size = LinearForm | int


def _sizes(args: tuple[Any, ...]) -> list[Size]:
    """Sizes given one by one or as one sequence."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        return list(args[0])
    return list(args)


def _weights(tensor: Labelled) -> bool:
    return tensor.name is not None or tensor.from_weights


def _moved(ctx: Context, input: Labelled, dims: Sequence[Vec | None]) -> Labelled:
    result = ctx.result(dims)
    return Labelled(result.shape, result.dims, from_weights=_weights(input))


# -- order of dimensions -----------------------------------------------------------------------------------------------


@rule("permute")
def permute(ctx: Context, input: Labelled, *args: Any, dims: Any = None) -> Labelled:
    order = plain_all(_sizes(args) if dims is None else dims)
    vecs = ctx.vecs(input)
    return _moved(ctx, input, [vecs[d] for d in order])


@rule("transpose", "swapaxes", "swapdims")
def transpose(ctx: Context, input: Labelled, dim0: Size, dim1: Size) -> Labelled:
    vecs = ctx.vecs(input)
    a, b = plain(dim0), plain(dim1)
    vecs[a], vecs[b] = vecs[b], vecs[a]
    return _moved(ctx, input, vecs)


@rule("t", "adjoint", torch.Tensor.mT.__get__, torch.Tensor.T.__get__, torch.Tensor.H.__get__, torch.Tensor.mH.__get__)  # type: ignore[attr-defined]
def transposed(ctx: Context, input: Labelled) -> Labelled:
    vecs = ctx.vecs(input)
    if ctx.node.target == torch.Tensor.T.__get__:  # type: ignore[attr-defined]
        return _moved(ctx, input, vecs[::-1])
    return _moved(ctx, input, [*vecs[:-2], *vecs[-2:][::-1]])


@rule("movedim", "moveaxis")
def movedim(ctx: Context, input: Labelled, source: Any, destination: Any) -> Labelled:
    vecs = ctx.vecs(input)
    origin = {d % input.ndim: s % input.ndim for s, d in zip(plain_all(source), plain_all(destination), strict=True)}
    rest = iter([d for d in range(input.ndim) if d not in origin.values()])
    return _moved(ctx, input, [vecs[origin[d]] if d in origin else vecs[next(rest)] for d in range(input.ndim)])


@rule("unsqueeze")
def unsqueeze(ctx: Context, input: Labelled, dim: Size) -> Labelled:
    vecs = ctx.vecs(input)
    vecs.insert(plain(dim) % (input.ndim + 1), None)
    return _moved(ctx, input, vecs)


@rule("squeeze")
def squeeze(ctx: Context, input: Labelled, dim: Any = None) -> Labelled:
    chosen = range(input.ndim) if dim is None else [d % input.ndim for d in plain_all(dim)]
    gone = {d for d in chosen if input.shape[d] == 1}
    return _moved(ctx, input, [vec for d, vec in enumerate(ctx.vecs(input)) if d not in gone])


@rule("flip")
def flip(ctx: Context, input: Labelled, *args: Any, dims: Any = None) -> Labelled:
    turned = {d % input.ndim for d in plain_all(_sizes(args) if dims is None else dims)}
    return _moved(
        ctx, input, [vec[::-1] if vec is not None and d in turned else vec for d, vec in enumerate(ctx.vecs(input))]
    )


@rule("roll")
def roll(ctx: Context, input: Labelled, shifts: Any, dims: Any = None) -> Labelled:
    vecs = ctx.vecs(input)
    if dims is None:
        ctx.freeze_all([input], "rolled over all dimensions")
        return ctx.fixed()  # type: ignore[no-any-return]
    amounts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    for shift, dim in zip(amounts, plain_all(dims), strict=True):
        vec = vecs[dim]
        if vec is not None:
            n = plain(shift) % len(vec)
            ctx.freeze(vec[len(vec) - n :], "a roll takes a fixed number of them to the other end")
            vecs[dim] = np.roll(vec, n)
    return _moved(ctx, input, vecs)


# -- shapes ------------------------------------------------------------------------------------------------------------


@rule("reshape", "view")
def reshape(ctx: Context, input: Labelled, *args: Any, shape: Any = None) -> Labelled:
    sizes = _sizes(args) if shape is None else list(shape)
    if sizes and isinstance(sizes[0], torch.dtype):
        return _moved(ctx, input, ctx.vecs(input))
    return regroup(ctx, input, sizes)


@rule("view_as", "reshape_as")
def view_as(ctx: Context, input: Labelled, other: Labelled) -> Labelled:
    return regroup(ctx, input, [LinearForm.count(v, n) for v, n in zip(ctx.vecs(other), other.shape, strict=True)])


@rule("flatten", "ravel")
def flatten(ctx: Context, input: Labelled, start_dim: Size = 0, end_dim: Size = -1) -> Labelled:
    return regroup(ctx, input, None)


@rule("unflatten")
def unflatten(ctx: Context, input: Labelled, dim: Size, sizes: Sequence[Size]) -> Labelled:
    d = plain(dim) % input.ndim
    around = [LinearForm.count(v, n) for v, n in zip(ctx.vecs(input), input.shape, strict=True)]
    return regroup(ctx, input, [*around[:d], *sizes, *around[d + 1 :]])


def regroup(ctx: Context, input: Labelled, sizes: Sequence[Size] | None) -> Labelled:
    """Labels after a reshape to the sizes that the code gives (None: they follow from the input)."""
    shape: tuple[int, ...] = ctx.shape
    vecs = ctx.vecs(input)
    dims: list[Vec | None] = [None] * len(shape)
    for old, new in aligned(input.shape, shape):
        for d in old:
            vec = vecs[d]
            if vec is None:
                continue
            grid = vec.reshape([-1 if o == d else 1 for o in old])
            grid = np.broadcast_to(grid, [input.shape[o] for o in old]).reshape([shape[n] for n in new])
            carrier, part = _carry(ctx, grid, [sizes[n] if sizes is not None else -1 for n in new])
            if carrier is None:
                ctx.freeze(vec, f"a reshape to {shape} fixes it")
            elif dims[new[carrier]] is not None:  # two cuts in one dimension: keep the first
                ctx.freeze(part, "merged with another dimension that is cut")
            else:
                dims[new[carrier]] = part
    for size, vec, n in zip(sizes or [], dims, shape, strict=False):
        if plain(size) != -1:
            ctx.require(size, vec, n)
    return _moved(ctx, input, dims)


def aligned(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of old and new dimensions that hold the same elements.

    >>> aligned((2, 12, 5, 5), (2, 3, 4, 25))
    [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [], []
        have, want = 1, 1
        while True:
            if have <= want and i < len(old) and (have < want or not a):
                a.append(i)
                have *= old[i]
                i += 1
            elif j < len(new) and (want < have or not b):
                b.append(j)
                want *= new[j]
                j += 1
            else:
                break
        while i < len(old) and old[i] == 1:
            a.append(i)
            i += 1
        while j < len(new) and new[j] == 1:
            b.append(j)
            j += 1
        runs.append((a, b))
    return runs


def _carry(ctx: Context, grid: Vec, sizes: Sequence[Size]) -> tuple[int | None, Vec | None]:
    """Which new dimension carries the labels, and its labels; they are tied along all others.

    A dimension can carry them if its size follows the cut: it is -1, or computed from a shape, or an attribute
    of a module that can be set anew.
    """
    varying = [d for d in range(grid.ndim) if grid.shape[d] > 1 and (grid != grid.take([0], axis=d)).any()]
    if not varying:
        return None, None
    if len(varying) == 1:
        carrier = varying[0]
    else:
        following = [d for d in varying if plain(sizes[d]) == -1 or _moves(sizes[d])]
        settable = [d for d in varying if isinstance(sizes[d], LinearForm) and sizes[d].attributes]  # type: ignore[union-attr]
        if not (following or settable):
            return None, None
        carrier = following[-1] if following else settable[-1]
    lines = np.moveaxis(grid, carrier, -1).reshape(-1, grid.shape[carrier])
    if len(varying) > 1:
        ctx.space.tie(lines[1:], lines[:1])
    return carrier, lines[0]


def _moves(size: Size) -> bool:
    return isinstance(size, LinearForm) and bool(size.terms)


# -- sizes -------------------------------------------------------------------------------------------------------------


@rule("expand", "broadcast_to")
def expand(ctx: Context, input: Labelled, *args: Any, size: Any = None) -> Labelled:
    sizes = _sizes(args) if size is None else list(size)
    lead = len(sizes) - input.ndim
    vecs = [None] * lead + ctx.vecs(input)
    for i, (wanted, n) in enumerate(zip(sizes, ctx.shape, strict=True)):
        present = input.shape[i - lead] if i >= lead else 1
        if plain(wanted) == -1 or n == 1:
            continue
        if present == 1:
            vecs[i] = ctx.stretched(wanted)
        else:
            ctx.require(wanted, vecs[i], n)
    return _moved(ctx, input, vecs)


@rule("expand_as")
def expand_as(ctx: Context, input: Labelled, other: Labelled) -> Labelled:
    return expand(ctx, input, [LinearForm.count(v, n) for v, n in zip(ctx.vecs(other), other.shape, strict=True)])


@rule("repeat", "tile")
def repeat(ctx: Context, input: Labelled, *args: Any, repeats: Any = None, dims: Any = None) -> Labelled:
    times = _sizes(args) if repeats is None and dims is None else list(repeats if dims is None else dims)
    n = max(len(times), input.ndim)
    times = [1] * (n - len(times)) + times
    vecs: list[Vec | None] = [None] * (n - input.ndim) + ctx.vecs(input)
    shape = (1,) * (n - input.ndim) + input.shape
    for i, factor in enumerate(times):
        vec = vecs[i]
        if vec is not None:
            ctx.require(factor, None, plain(factor))
            vecs[i] = np.tile(vec, plain(factor))
        elif shape[i] == 1:
            vecs[i] = ctx.stretched(factor)
        else:
            ctx.require(factor, None, plain(factor))
    return _moved(ctx, input, vecs)


@rule("repeat_interleave")
def repeat_interleave(ctx: Context, input: Labelled, repeats: Any, dim: Any = None, **kwargs: Any) -> Labelled:
    if dim is None or isinstance(repeats, Labelled):
        ctx.freeze_all([input], "repeated by a tensor of counts, or over all dimensions")
        return ctx.fixed()  # type: ignore[no-any-return]
    vecs = ctx.vecs(input)
    d, vec = plain(dim), vecs[plain(dim)]
    vecs[d] = np.repeat(vec, plain(repeats)) if vec is not None else None
    if vec is None and input.shape[d] == 1:
        vecs[d] = ctx.stretched(repeats)
    else:
        ctx.require(repeats, None, plain(repeats))
    return _moved(ctx, input, vecs)


@rule("pad", "constant_pad_nd")
def pad(ctx: Context, input: Labelled, pad: Sequence[Size], mode: str = "constant", value: Any = None) -> Labelled:
    """New indices are constants: as many stay as the code asks for."""
    vecs = ctx.vecs(input)
    for i in range(len(pad) // 2):
        d = input.ndim - 1 - i
        before, after = pad[2 * i], pad[2 * i + 1]
        if not (plain(before) or plain(after)) and not (_moves(before) or _moves(after)):
            continue
        if mode != "constant" or plain(before) < 0 or plain(after) < 0:
            ctx.freeze(vecs[d], f"padded ({mode})")
            vecs[d] = None
            continue
        sides = [_padding(ctx, amount) for amount in (before, after)]
        if vecs[d] is None and not any(side.any() for side in sides):
            continue
        middle = vecs[d] if vecs[d] is not None else np.zeros(input.shape[d], dtype=np.int64)
        vecs[d] = np.concatenate([sides[0], middle, sides[1]])
    return ctx.result(vecs)


def _padding(ctx: Context, amount: Size) -> Vec:
    """Labels of a run of padded indices: fixed, unless their number is computed from something that is cut."""
    n = plain(amount)
    form = LinearForm.of(amount)
    if form.fixed or n == 0:
        return np.zeros(n, dtype=np.int64)
    vec = ctx.space.fresh(n)
    ctx.require(form, vec)
    return vec


@rule("zeros", "ones", "full", "empty", "rand", "randn", "new_zeros", "new_ones", "new_empty", "new_full")
def created(ctx: Context, *args: Any, size: Any = None, **kwargs: Any) -> Labelled:
    """A new tensor follows the sizes that it was asked to have."""
    numbers = size if size is not None else [a for a in args if not isinstance(a, Labelled)]
    if len(numbers) and isinstance(numbers[0], (tuple, list)):
        numbers = numbers[0]
    return ctx.result([ctx.stretched(n) for n in list(numbers)[: len(ctx.shape)]])


# -- places that hold channels -----------------------------------------------------------------------------------------


def _through(ctx: Context, input: Labelled, function: Any, *args: Any) -> Labelled:
    """Run the very same function on an array of labels, and read off which dimension holds them afterwards."""
    dims: list[Vec | None] = [None] * len(ctx.shape)
    for d, vec in enumerate(ctx.vecs(input)):
        if vec is None:
            continue
        labels = torch.from_numpy(np.ascontiguousarray(vec)).reshape([-1 if i == d else 1 for i in range(input.ndim)])
        grid = function(labels.expand(1, *input.shape[1:]).double(), *args).long().numpy()
        carrier, part = _carry(ctx, grid, [-1 if i == d else 0 for i in range(grid.ndim)])
        if carrier is None or dims[carrier] is not None:
            ctx.freeze(vec, "spread over several dimensions")
        else:
            dims[carrier] = part
    return ctx.result(dims)


@rule("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")
def shuffled(ctx: Context, input: Labelled, factor: Size) -> Labelled:
    """Channels to places, places to channels, or channels to channels, in equal groups."""
    groups = {"pixel_shuffle": plain(factor) ** 2, "pixel_unshuffle": 1}.get(ctx.node.target.__name__, plain(factor))  # type: ignore[union-attr]
    if ctx.node.target.__name__ == "pixel_shuffle":  # type: ignore[union-attr]
        vec = ctx.vec(input, -3)
        if vec is not None:
            ctx.space.tie(vec.reshape(-1, groups)[:, 1:], vec.reshape(-1, groups)[:, :1])
    elif groups > 1:
        ctx.across(ctx.vec(input, 1), groups)
    return _through(ctx, input, ctx.node.target, plain(factor))


@rule("unfold")
def unfold(ctx: Context, input: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """Windows: as channels of columns (`F.unfold`: C * k), or as one more dimension (`Tensor.unfold`)."""
    vecs = ctx.vecs(input)
    if ctx.node.target is torch.Tensor.unfold:
        d = plain(args[0] if args else kwargs["dimension"])
        ctx.freeze(vecs[d], "a window slides over it")
        vecs[d] = None
        return ctx.result([*vecs, None])
    for d in range(2, input.ndim):
        ctx.freeze(vecs[d], "a window slides over it")
    times = ctx.shape[-2] // input.shape[1]
    return ctx.result([vecs[0], None if vecs[1] is None else np.repeat(vecs[1], times), None])


@rule("cat", "concat", "concatenate")
def cat(ctx: Context, tensors: Sequence[Labelled], dim: Size = 0, **kwargs: Any) -> Labelled:
    """Along `dim` one after the other; all other dimensions are cut alike."""
    d = plain(kwargs.get("axis", dim))
    tensors = [t for t in tensors if t.shape != (0,)]
    n = tensors[0].ndim
    dims: list[Vec | None] = []
    for i in range(n):
        if i != d % n:
            dims.append(join_dim(ctx, list(tensors), i) if tensors[0].shape[i] > 1 else None)
            continue
        parts = [ctx.vec(t, i) for t in tensors]
        known = any(p is not None for p in parts)
        filled = [
            np.zeros(t.shape[i], dtype=np.int64) if p is None else p for p, t in zip(parts, tensors, strict=True)
        ]
        dims.append(np.concatenate(filled) if known else None)
    return Labelled(ctx.shape, tuple(dims), from_weights=all(_weights(t) for t in tensors))


@rule("stack")
def stack(ctx: Context, tensors: Sequence[Labelled], dim: Size = 0) -> Labelled:
    """A new dimension; all others are cut alike."""
    first = tensors[0]
    dims = [join_dim(ctx, list(tensors), i) if first.shape[i] > 1 else None for i in range(first.ndim)]
    dims.insert(plain(dim) % (first.ndim + 1), None)
    return ctx.result(dims)


# -- parts of a dimension ----------------------------------------------------------------------------------------------


@rule("chunk", "tensor_split")
def chunk(ctx: Context, input: Labelled, chunks: Any, dim: Size = 0) -> tuple[Labelled, ...]:
    """Equal parts: the same position goes from each."""
    d = plain(dim) % input.ndim
    vec = ctx.vec(input, d)
    parts = [s[d] for s in ctx.shape]
    if isinstance(chunks, (tuple, list, Labelled)) or len(set(parts)) > 1:
        ctx.freeze(vec, "split into unequal parts")
    elif vec is not None:
        ctx.across(vec, len(parts))
    return _parts(ctx, input, d)


@rule("split", "split_with_sizes", "unsafe_split")
def split(ctx: Context, tensor: Labelled, split_size_or_sections: Any, dim: Size = 0, **kwargs: Any) -> Any:
    """Parts of the given sizes, which must stay right."""
    d = plain(dim) % tensor.ndim
    parts = _parts(ctx, tensor, d)
    sizes = split_size_or_sections
    if not isinstance(sizes, (tuple, list)):
        n = plain(sizes)
        sizes = [sizes if part.shape[d] == n else None for part in parts]
    for size, part in zip(sizes, parts, strict=True):
        if size is not None:
            ctx.require(size, part.dims[d], part.shape[d])
    return parts


def _parts(ctx: Context, input: Labelled, dim: int) -> tuple[Labelled, ...]:
    vecs = ctx.vecs(input)
    results = []
    start = 0
    for shape in ctx.shape:
        part = [None if v is None else v[start : start + shape[dim]] if i == dim else v for i, v in enumerate(vecs)]
        results.append(Labelled(shape, tuple(part), from_weights=_weights(input)))
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
    first = plain(start) if not isinstance(start, Labelled) else 0
    d = plain(dim) % input.ndim
    stop = LinearForm.of(start).plus(LinearForm.of(length), 1)
    vecs = ctx.vecs(input)
    vecs[d] = _slice(ctx, vecs[d], slice(start if first else None, stop, None))
    return _moved(ctx, input, vecs)


@rule("select")
def select(ctx: Context, input: Labelled, dim: Size, index: Size) -> Labelled:
    d = plain(dim) % input.ndim
    vecs = ctx.vecs(input)
    _pick(ctx, vecs.pop(d), plain(index))
    return _moved(ctx, input, vecs)


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
            _pick(ctx, vec, plain(i))
        position += 1
    result = ctx.result(dims, shape)
    return Labelled(shape, result.dims, from_weights=_weights(input))


def _looked_up(ctx: Context, input: Labelled, index: tuple[Any, ...]) -> Labelled:
    """Only dimensions that no index touches keep their labels, where they can be told apart by position."""
    vecs = ctx.vecs(input)
    simple = all(isinstance(i, (Labelled, list)) or i == slice(None) for i in index)
    tensors = [i for i in index if isinstance(i, Labelled)]
    for d, vec in enumerate(vecs):
        if d < len(index) and index[d] != slice(None) or not simple:
            ctx.freeze(vec, "looked up by index")
    ctx.freeze_all(tensors, "used as an index")
    if not simple:
        return ctx.fixed()  # type: ignore[no-any-return]
    tail = [v for d, v in enumerate(vecs) if d >= len(index)]
    lead = len(ctx.shape) - len(tail)
    return _moved(ctx, input, [*[None] * lead, *tail]) if lead >= 0 else ctx.fixed()


def _slice(ctx: Context, vec: Vec | None, part: slice) -> Vec | None:
    """The labels in a slice, whose ends must stay where they are."""
    start, stop = part.start, part.stop
    step = 1 if part.step is None else plain(part.step)
    plain_part = slice(*(None if x is None else plain(x) for x in (start, stop)), step)
    if vec is None:
        for end in (start, stop):
            if end is not None and _moves(end):
                ctx.require(end, None, plain(end))
        return None
    if step != 1:
        return _strided(ctx, vec, plain_part)
    for end in (start, stop):
        if end is None or plain(end) == 0 or plain(end) >= len(vec):
            continue
        if plain(end) > 0:
            ctx.require(end, vec[: plain(end)])
        else:
            ctx.require(LinearForm.of(end).scaled(-ONE, -plain(end)), vec[plain(end) :])
    return vec[plain_part]


def _strided(ctx: Context, vec: Vec, part: slice) -> Vec:
    """Every n-th index: n neighbours go together."""
    n, start = part.step, part.start or 0
    if len(vec) % n or not 0 <= start < n or part.stop is not None:
        ctx.freeze(vec, "sliced with a step")
        return vec[part]
    ctx.space.tie(vec.reshape(-1, n)[:, 1:], vec.reshape(-1, n)[:, :1])
    return vec[part]


def _pick(ctx: Context, vec: Vec | None, index: int) -> None:
    """One index is taken by its number: it and all before it (or after it, counted from the end) must stay."""
    if vec is not None:
        ctx.freeze(vec[: index + 1] if index >= 0 else vec[index:], "one index is taken by its number")


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
        return slice(*(None if x is None else plain(x) for x in (index.start, index.stop, index.step)))
    return plain(index) if isinstance(index, (int, LinearForm)) and not isinstance(index, bool) else index


@rule("gather", "take_along_dim", "index_select", "scatter", "scatter_add", "index_add", "index_copy")
def indexed(ctx: Context, input: Labelled, dim: Any, index: Labelled, *args: Any, **kwargs: Any) -> Any:
    """The dimension that is looked into stays whole, the others are kept by an `index_select`."""
    if ctx.node.target in (torch.index_select, torch.Tensor.index_select):
        vecs = ctx.vecs(input)
        ctx.freeze(vecs[plain(dim)], "looked up by index")
        vecs[plain(dim)] = None
        return _moved(ctx, input, vecs)
    ctx.freeze_all([t for t in (input, index, *args) if isinstance(t, Labelled)], "looked up by index")
    return ctx.fixed()


ONE = LinearForm.of(1).constant
