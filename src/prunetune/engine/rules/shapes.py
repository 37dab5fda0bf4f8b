"""Operations that change shapes: reshape, expand, repeat, pad, and new tensors of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from prunetune.engine.labels import Labelled, LinearForm, Vec, plain
from prunetune.engine.rules.common import Size, moved, moves, sizes_of
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.table import rule


@rule("reshape", "view")
def reshape(ctx: RuleContext, input: Labelled, *args: Any, shape: Any = None) -> Labelled:
    sizes = sizes_of(args) if shape is None else list(shape)
    if sizes and isinstance(sizes[0], torch.dtype):
        return _as_type(ctx, input)
    return regroup(ctx, input, sizes)


def _as_type(ctx: RuleContext, input: Labelled) -> Labelled:
    """The same bytes as numbers of another type: of more or of fewer, if the types differ in size."""
    vecs = ctx.vecs(input)
    if input.ndim and vecs[-1] is not None and ctx.shape[-1] > input.shape[-1]:
        vecs[-1] = np.repeat(vecs[-1], ctx.shape[-1] // input.shape[-1])
    elif input.ndim and vecs[-1] is not None and ctx.shape[-1] < input.shape[-1]:
        grid = vecs[-1].reshape(ctx.shape[-1], -1)
        ctx.space.tie(grid[:, 1:], grid[:, :1])
        vecs[-1] = grid[:, 0]
    return ctx.result(vecs)


@rule("view_as", "reshape_as")
def view_as(ctx: RuleContext, input: Labelled, other: Labelled) -> Labelled:
    return regroup(ctx, input, [LinearForm.count(v, n) for v, n in zip(ctx.vecs(other), other.shape, strict=True)])


@rule("flatten", "ravel")
def flatten(ctx: RuleContext, input: Labelled, start_dim: Size = 0, end_dim: Size = -1) -> Labelled:
    return regroup(ctx, input, None)


@rule("unflatten")
def unflatten(ctx: RuleContext, input: Labelled, dim: Size, sizes: Sequence[Size]) -> Labelled:
    d = plain(dim) % input.ndim
    around = [LinearForm.count(v, n) for v, n in zip(ctx.vecs(input), input.shape, strict=True)]
    return regroup(ctx, input, [*around[:d], *sizes, *around[d + 1 :]])


def regroup(ctx: RuleContext, input: Labelled, sizes: Sequence[Size] | None) -> Labelled:
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
            carrier, part = carry(ctx, grid, [sizes[n] if sizes is not None else -1 for n in new])
            if carrier is None:
                ctx.freeze(vec, f"a reshape to {shape} fixes it")
            elif dims[new[carrier]] is not None:  # two cuts in one dimension: keep the first
                ctx.freeze(part, "merged with another dimension that is cut")
            else:
                dims[new[carrier]] = part
    for size, vec, n in zip(sizes or [], dims, shape, strict=False):
        if plain(size) != -1:
            ctx.require(size, vec, n)
    return moved(ctx, input, dims)


def aligned(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of old and new dimensions that hold the same elements.

    >>> aligned((2, 12, 5, 5), (2, 3, 4, 25))
    [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a: list[int] = []
        b: list[int] = []
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


def carry(ctx: RuleContext, grid: Vec, sizes: Sequence[Size]) -> tuple[int | None, Vec | None]:
    """Which new dimension carries the labels, and its labels; they are tied along all others.

    A dimension can carry them if its size follows the cut: it is -1, or computed from a shape, or an attribute
    of a module that can be set anew. Where two can (the heads of an attention, and the size of each), the context says
    which.
    """
    varying = [d for d in range(grid.ndim) if grid.shape[d] > 1 and (grid != grid.take([0], axis=d)).any()]
    if not varying:
        return None, None
    carrier = varying[0] if len(varying) == 1 else _carrier(ctx, varying, sizes)
    if carrier is None:
        return None, None
    lines = np.moveaxis(grid, carrier, -1).reshape(-1, grid.shape[carrier])
    if len(varying) > 1:
        ctx.space.tie(lines[1:], lines[:1])
        ctx.chosen(lines[0])
    return carrier, lines[0]


def _carrier(ctx: RuleContext, dims: Sequence[int], sizes: Sequence[Size]) -> int | None:
    """A size that the code computes from what is cut comes before one that it leaves open, the last before others."""
    computed = [d for d in dims if moves(sizes[d])]
    open_ = [d for d in dims if plain(sizes[d]) == -1 or (isinstance(sizes[d], LinearForm) and sizes[d].attributes)]  # type: ignore[union-attr]
    candidates = [*(d for d in open_ if d not in computed), *computed]
    return ctx.choose(candidates) if candidates else None


@rule("expand", "broadcast_to")
def expand(ctx: RuleContext, input: Labelled, *args: Any, size: Any = None) -> Labelled:
    sizes = sizes_of(args) if size is None else list(size)
    lead = len(sizes) - input.ndim
    vecs: list[Vec | None] = [*[None] * lead, *ctx.vecs(input)]
    for i, (wanted, n) in enumerate(zip(sizes, ctx.shape, strict=True)):
        present = input.shape[i - lead] if i >= lead else 1
        if plain(wanted) == -1 or n == 1:
            continue
        if present == 1:
            vecs[i] = ctx.stretched(wanted)
        else:
            ctx.require(wanted, vecs[i], n)
    return moved(ctx, input, vecs)


@rule("expand_as")
def expand_as(ctx: RuleContext, input: Labelled, other: Labelled) -> Labelled:
    return expand(ctx, input, [LinearForm.count(v, n) for v, n in zip(ctx.vecs(other), other.shape, strict=True)])


@rule("repeat", "tile")
def repeat(ctx: RuleContext, input: Labelled, *args: Any, repeats: Any = None, dims: Any = None) -> Labelled:
    times = sizes_of(args) if repeats is None and dims is None else list(repeats if dims is None else dims)
    n = max(len(times), input.ndim)
    times = [1] * (n - len(times)) + times
    vecs: list[Vec | None] = [*[None] * (n - input.ndim), *ctx.vecs(input)]
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
    return moved(ctx, input, vecs)


@rule("repeat_interleave")
def repeat_interleave(ctx: RuleContext, input: Labelled, repeats: Any, dim: Any = None, **kwargs: Any) -> Labelled:
    if dim is None or isinstance(repeats, Labelled):
        ctx.freeze_all([input], "repeated by a tensor of counts, or over all dimensions")
        fixed: Labelled = ctx.fixed()
        return fixed
    vecs = ctx.vecs(input)
    d, vec = plain(dim), vecs[plain(dim)]
    vecs[d] = np.repeat(vec, plain(repeats)) if vec is not None else None
    if vec is None and input.shape[d] == 1:
        vecs[d] = ctx.stretched(repeats)
    else:
        ctx.require(repeats, None, plain(repeats))
    return moved(ctx, input, vecs)


@rule("constant_pad_nd")
def constant_pad(ctx: RuleContext, input: Labelled, pad: Sequence[Size], value: Any = 0) -> Labelled:
    return padded(ctx, input, pad)


@rule("pad")
def padded(
    ctx: RuleContext, input: Labelled, pad: Sequence[Size], mode: str = "constant", value: Any = None
) -> Labelled:
    """New indices are constants: as many stay as the code asks for."""
    vecs = ctx.vecs(input)
    for i in range(len(pad) // 2):
        d = input.ndim - 1 - i
        before, after = pad[2 * i], pad[2 * i + 1]
        if not (plain(before) or plain(after)) and not (moves(before) or moves(after)):
            continue
        if mode != "constant" or plain(before) < 0 or plain(after) < 0:
            ctx.freeze(vecs[d], f"padded ({mode})")
            ctx.keep_numbers((before, after))
            vecs[d] = None
            continue
        sides = [_padding(ctx, amount) for amount in (before, after)]
        if vecs[d] is None and not any(side.any() for side in sides):
            continue
        middle = vecs[d] if vecs[d] is not None else np.zeros(input.shape[d], dtype=np.int64)
        vecs[d] = np.concatenate([sides[0], middle, sides[1]])
    return ctx.result(vecs)


def _padding(ctx: RuleContext, amount: Size) -> Vec:
    """Labels of a run of padded indices: fixed, unless their number is computed from something that is cut."""
    n = plain(amount)
    form = LinearForm.of(amount)
    if form.fixed or n == 0:
        return np.zeros(n, dtype=np.int64)
    vec = ctx.space.fresh(n)
    ctx.require(form, vec)
    return vec


@rule("zeros", "ones", "full", "empty", "rand", "randn", "new_zeros", "new_ones", "new_empty", "new_full")
def created(ctx: RuleContext, *args: Any, size: Any = None, **kwargs: Any) -> Labelled:
    """A new tensor follows the sizes that it was asked to have."""
    own = args[1:] if ctx.node.target.__name__.startswith("new_") else args  # type: ignore[union-attr]
    numbers = sizes_of(own[:1] if own and isinstance(own[0], (tuple, list)) else own) if size is None else list(size)
    sizes = numbers[: len(ctx.shape)]
    result = ctx.result([None if isinstance(n, Labelled) else ctx.stretched(n) for n in sizes])
    return replace(result, from_weights=True)  # nothing of the inputs is in it
