"""Operations that move data between places: labels are an array and go through the same operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from prunetune.engine.labels import Labelled, Vec, plain, plain_all
from prunetune.engine.rules.common import Size, moves, negative, sizes_of
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.elementwise import join_dim
from prunetune.engine.rules.shapes import carry
from prunetune.engine.rules.table import rule


@rule("permute")
def permute(ctx: RuleContext, input: Labelled, *args: Any, dims: Any = None) -> Labelled:
    order = plain_all(sizes_of(args) if dims is None else dims)
    vecs = ctx.vecs(input)
    return ctx.result([vecs[d] for d in order])


@rule("transpose", "swapaxes", "swapdims")
def transpose(ctx: RuleContext, input: Labelled, *args: Size, **kwargs: Size) -> Labelled:
    a, b = plain_all([*args, *(kwargs[name] for name in sorted(kwargs))])  # dim0 and dim1, or axis0 and axis1
    vecs = ctx.vecs(input)
    vecs[a], vecs[b] = vecs[b], vecs[a]
    return ctx.result(vecs)


@rule("t", "adjoint", torch.Tensor.mT.__get__, torch.Tensor.T.__get__, torch.Tensor.H.__get__, torch.Tensor.mH.__get__)  # type: ignore[attr-defined]
def transposed(ctx: RuleContext, input: Labelled) -> Labelled:
    vecs = ctx.vecs(input)
    if ctx.node.target == torch.Tensor.T.__get__:  # type: ignore[attr-defined]
        return ctx.result(vecs[::-1])
    return ctx.result([*vecs[:-2], *vecs[-2:][::-1]])


@rule("movedim", "moveaxis")
def movedim(ctx: RuleContext, input: Labelled, source: Any, destination: Any) -> Labelled:
    vecs = ctx.vecs(input)
    origin = {d % input.ndim: s % input.ndim for s, d in zip(plain_all(source), plain_all(destination), strict=True)}
    rest = iter([d for d in range(input.ndim) if d not in origin.values()])
    return ctx.result([vecs[origin[d]] if d in origin else vecs[next(rest)] for d in range(input.ndim)])


@rule("unsqueeze")
def unsqueeze(ctx: RuleContext, input: Labelled, dim: Size) -> Labelled:
    vecs = ctx.vecs(input)
    vecs.insert(plain(dim) % (input.ndim + 1), None)
    return ctx.result(vecs)


@rule("squeeze")
def squeeze(ctx: RuleContext, input: Labelled, dim: Any = None) -> Labelled:
    chosen = range(input.ndim) if dim is None else [d % input.ndim for d in plain_all(dim)]
    gone = {d for d in chosen if input.shape[d] == 1}
    return ctx.result([vec for d, vec in enumerate(ctx.vecs(input)) if d not in gone])


@rule("flip")
def flip(ctx: RuleContext, input: Labelled, *args: Any, dims: Any = None) -> Labelled:
    turned = {d % input.ndim for d in plain_all(sizes_of(args) if dims is None else dims)}
    return ctx.result([vec[::-1] if vec is not None and d in turned else vec for d, vec in enumerate(ctx.vecs(input))])


@rule("roll")
def roll(ctx: RuleContext, input: Labelled, shifts: Any, dims: Any = None) -> Labelled:
    vecs = ctx.vecs(input)
    if dims is None:
        ctx.freeze_all([input], "rolled over all dimensions")
        fixed: Labelled = ctx.fixed()
        return fixed
    amounts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    for shift, dim in zip(amounts, plain_all(dims), strict=True):
        vec, n = vecs[dim], plain(shift)
        if vec is None:
            ctx.require(shift, None)
            continue
        wraps = vec if abs(n) > len(vec) else vec[len(vec) - n :] if n > 0 else vec[:-n]
        if moves(shift) and 0 < abs(n) <= len(vec):
            ctx.require(shift if n > 0 else negative(shift), wraps)
        else:
            ctx.require(shift, None)
            ctx.freeze(wraps, "a roll takes a fixed number of them to the other end")
        vecs[dim] = np.roll(vec, n)
    return ctx.result(vecs)


def _through(ctx: RuleContext, input: Labelled, function: Any, *args: Any) -> Labelled:
    """Run the very same function on an array of labels, and read off which dimension holds them afterwards."""
    dims: list[Vec | None] = [None] * len(ctx.shape)
    for d, vec in enumerate(ctx.vecs(input)):
        if vec is None:
            continue
        labels = torch.tensor(np.ascontiguousarray(vec)).reshape([-1 if i == d else 1 for i in range(input.ndim)])
        grid = function(labels.expand(1, *input.shape[1:]).double(), *args).long().numpy()
        carrier, part = carry(ctx, grid, [-1 if i == d else 0 for i in range(grid.ndim)])
        if carrier is None or dims[carrier] is not None:
            ctx.freeze(vec, "spread over several dimensions")
        else:
            dims[carrier] = part
    return ctx.result(dims)


@rule("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")
def shuffled(ctx: RuleContext, input: Labelled, *args: Size, **kwargs: Size) -> Labelled:
    """Channels to places, places to channels, or channels to channels, in equal groups."""
    (factor,) = (*args, *kwargs.values())  # which every function calls something else
    groups = {"pixel_shuffle": plain(factor) ** 2, "pixel_unshuffle": 1}.get(ctx.node.target.__name__, plain(factor))  # type: ignore[union-attr]
    if ctx.node.target.__name__ == "pixel_shuffle":  # type: ignore[union-attr]
        vec = ctx.vec(input, -3)
        if vec is not None:
            ctx.space.tie(vec.reshape(-1, groups)[:, 1:], vec.reshape(-1, groups)[:, :1])
    elif ctx.node.target.__name__ == "pixel_unshuffle":  # type: ignore[union-attr]
        for places in (ctx.vec(input, -1), ctx.vec(input, -2)):
            if places is not None:
                blocks = places.reshape(-1, plain(factor))
                ctx.space.tie(blocks[:, 1:], blocks[:, :1])
    elif groups > 1:
        ctx.across(ctx.vec(input, 1), groups)
    return _through(ctx, input, ctx.node.target, plain(factor))


@rule("unfold")
def unfold(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Labelled:
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


@rule("fold")
def fold(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """Windows back into an image: (N, C * k, L) to (N, C, H, W)."""
    vecs = ctx.vecs(input)
    ctx.freeze(vecs[-1], "windows are laid out over it")
    channels = vecs[-2]
    if channels is not None:
        grid = channels.reshape(ctx.shape[-3], -1)
        ctx.space.tie(grid[:, 1:], grid[:, :1])
        channels = grid[:, 0]
    return ctx.result([*vecs[:-2], channels, None, None])


@rule("cat", "concat", "concatenate")
def cat(ctx: RuleContext, tensors: Sequence[Labelled], dim: Size = 0, **kwargs: Any) -> Labelled:
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
        filled = [np.zeros(t.shape[i], dtype=np.int64) if p is None else p for p, t in zip(parts, tensors, strict=True)]
        dims.append(np.concatenate(filled) if known else None)
    return ctx.result(dims)


@rule("stack")
def stack(ctx: RuleContext, tensors: Sequence[Labelled], dim: Size = 0) -> Labelled:
    """A new dimension; all others are cut alike."""
    first = tensors[0]
    dims = [join_dim(ctx, list(tensors), i) if first.shape[i] > 1 else None for i in range(first.ndim)]
    dims.insert(plain(dim) % (first.ndim + 1), None)
    return ctx.result(dims)
