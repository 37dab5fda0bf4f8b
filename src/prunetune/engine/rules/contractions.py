"""Operations that sum over an index: what is summed is tied, what is left is the result's."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from prunetune.engine.labels import Labelled, LinearForm, Vec, plain
from prunetune.engine.rules.common import is_weight
from prunetune.engine.rules.context import Rule, RuleContext
from prunetune.engine.rules.elementwise import join, join_dim
from prunetune.engine.rules.table import rule


@rule("linear")
def linear(ctx: RuleContext, input: Labelled, weight: Labelled, bias: Labelled | None = None) -> Labelled:
    """x (..., I) times W (O, I) transposed."""
    ctx.bind(weight, 1, ctx.vec(input, -1))
    out = ctx.produce(weight, 0)
    ctx.bind(bias, 0, out)
    lead = ctx.vecs(input)[:-1]
    ctx.count(2, [*zip(lead, input.shape, strict=False), (ctx.vec(weight, 1), weight.shape[1]), (out, weight.shape[0])])
    return ctx.result([*lead, out])


def convolution(spatial: int, transposed: bool) -> Rule:
    """The rule of a convolution over `spatial` dimensions; weight (O, I/groups, ...), transposed (I, O/groups, ...)."""

    def conv(
        ctx: RuleContext, input: Labelled, weight: Labelled, bias: Labelled | None = None, *args: Any, **kwargs: Any
    ) -> Labelled:
        names = ("stride", "padding", "output_padding", "groups", "dilation") if transposed else (
            "stride", "padding", "dilation", "groups")  # fmt: skip
        options = {**dict(zip(names, args, strict=False)), **kwargs}
        groups = options.get("groups", 1)
        channel = input.ndim - spatial - 1
        places = [_place(ctx, input, weight, channel + 1 + i, i, options) for i in range(spatial)]
        for dim in range(2, weight.ndim):
            ctx.bind(weight, dim, None)
        x = ctx.vec(input, channel)
        out = channels_of(ctx, x, input.shape[channel], weight, groups, transposed)
        ctx.bind(bias, 0, out)
        batch = ctx.vecs(input)[:channel]
        sizes = input.shape[channel + 1 :] if transposed else ctx.shape[channel + 1 :]
        ctx.count(
            2 * math.prod(weight.shape[2:]),
            [
                *zip(batch, input.shape, strict=False),
                *zip(places, sizes, strict=True),
                *((ctx.vec(weight, d), weight.shape[d]) for d in (0, 1)),
            ],
        )
        return ctx.result([*batch, out, *places])

    return conv


def _place(
    ctx: RuleContext, input: Labelled, weight: Labelled, dim: int, i: int, options: Mapping[str, Any]
) -> Vec | None:
    """Labels of the i-th dimension that a convolution goes over: as they were if it looks at one place at a time."""
    vec = ctx.vec(input, dim)
    if vec is None:
        return None
    moves = [(options.get("stride", 1), 1), (options.get("padding", 0), 0), (options.get("output_padding", 0), 0)]
    one_by_one = weight.shape[2 + i] == 1 and all(_at(value, i) == wanted for value, wanted in moves)
    if one_by_one:
        return vec
    ctx.freeze(vec, "a convolution slides over it")
    return None


def _at(value: Any, i: int) -> int | None:
    """A number for each dimension, or one for all; None for a padding that is given by its name."""
    if isinstance(value, str):
        return 0 if value == "valid" else None
    return plain(value[min(i, len(value) - 1)]) if isinstance(value, (tuple, list)) else plain(value)


def channels_of(
    ctx: RuleContext, x: Vec | None, size: int, weight: Labelled, groups: LinearForm | int, transposed: bool
) -> Vec | None:
    """Tie the input channels to the weight and return the labels of the output channels."""
    g = plain(groups)
    first, second = (1, 0) if transposed else (0, 1)  # output and input axis of the weight
    if g == 1:
        ctx.bind(weight, second, x)
        return ctx.produce(weight, first)
    if g == size:  # depthwise: each output channel follows the input channel that it filters
        ctx.require(groups, x, g)
        if transposed:
            ctx.bind(weight, 0, x)
            multiplier = weight.shape[1]
            if multiplier > 1:
                ctx.bind(weight, 1, None)
            return None if x is None else x.repeat(multiplier)
        out = ctx.produce(weight, 0)
        if out is None:
            return None
        multiplier = weight.shape[0] // g
        if x is None:
            ctx.freeze(out, "filters a channel that is fixed")
            return None
        ctx.space.tie(out.reshape(g, multiplier), x[:, None])
        return out
    ctx.require(groups, None, g)
    if transposed:  # weight (I, O/groups): input axis whole, output axis within a group
        ctx.bind(weight, 0, x)
        ctx.across(ctx.vec(weight, 0), g)
        part = ctx.produce(weight, 1)
        return None if part is None else np.tile(part, g)
    ctx.bind(weight, 1, ctx.across(x, g))
    out = ctx.produce(weight, 0)
    ctx.across(out, g)
    return out


for _n in (1, 2, 3):
    rule(getattr(torch, f"conv{_n}d"))(convolution(_n, transposed=False))
    rule(getattr(torch, f"conv_transpose{_n}d"))(convolution(_n, transposed=True))


@rule("matmul", "bmm", "mm", "mv", "dot", "vdot", torch.Tensor.__matmul__, torch.Tensor.__rmatmul__)
def matmul(ctx: RuleContext, input: Labelled, other: Labelled) -> Labelled:
    """(..., M, K) times (..., K, N); vectors as in `torch.matmul`."""
    if ctx.node.target is torch.Tensor.__rmatmul__:
        input, other = other, input
    return _product(ctx, input, other)


def _product(ctx: RuleContext, a: Labelled, b: Labelled) -> Labelled:
    k_b = -2 if b.ndim > 1 else -1
    if a.shape[-1] > 1:
        if b.name is not None:
            ctx.bind(b, k_b, ctx.vec(a, -1))
        elif a.name is not None:
            ctx.bind(a, -1, ctx.vec(b, k_b))
        else:
            left, right = ctx.vec(a, -1), ctx.vec(b, k_b)
            if left is not None or right is not None:
                ctx.tie(left, right)
    contracted = ctx.vec(a, -1)
    rows = [_free(ctx, a, -2, b)] if a.ndim > 1 else []
    columns = [_free(ctx, b, -1, a)] if b.ndim > 1 else []
    lead = _batch(ctx, a, b)
    dims = [*lead, *rows, *columns]
    if b.ndim > 1:  # torch's counter does not count products with vectors
        ctx.count(2, [*zip(dims, ctx.shape, strict=True), (contracted, a.shape[-1])])
    return ctx.result(dims)


def _free(ctx: RuleContext, weight: Labelled, dim: int, other: Labelled) -> Vec | None:
    """An index that is not summed over: an output channel, if it is a weight's and meets an activation."""
    return ctx.produce(weight, dim) if is_weight(weight) and not is_weight(other) else ctx.vec(weight, dim)


def _batch(ctx: RuleContext, a: Labelled, b: Labelled) -> list[Vec | None]:
    """Labels of the leading dimensions, broadcast."""
    n = max(a.ndim, b.ndim) - 2
    dims: list[Vec | None] = []
    for dim in range(-n - 2, -2):
        size = max(t.shape[dim] for t in (a, b) if t.ndim >= -dim)
        members = [t for t in (a, b) if t.ndim >= -dim and t.shape[dim] == size]
        dims.append(join_dim(ctx, members, dim) if size > 1 else None)
    return dims


@rule("addmm", "baddbmm", "addbmm", "addmv")
def addmm(ctx: RuleContext, input: Labelled, mat1: Labelled, mat2: Labelled, **kwargs: Any) -> Labelled:
    """`input` plus the product."""
    product = _product(ctx, mat1, mat2)
    return join(ctx, [product, input])


ALIGNED = 8
"""Numbers of two bytes in the 16 bytes that `grouped_mm` wants its rows to be a multiple of."""


@rule("grouped_mm", "_grouped_mm", "transformers::grouped_mm_fallback")
def grouped_product(
    ctx: RuleContext,
    input: Labelled,
    weight: Labelled,
    offs: Labelled | None = None,
    bias: Labelled | None = None,
    **kwargs: Any,
) -> Labelled:
    """Rows of input (S, K), each times the matrix of its group in weight (G, K, N); or as many batches as groups.

    Neighbours go together, as many as torch's kernel wants a width to be a multiple of, also in bfloat16.
    """
    if input.ndim == weight.ndim == 3:
        return _product(ctx, input, weight)
    if input.ndim != 2 or weight.ndim != 3:
        raise ValueError("groups of columns")
    ctx.freeze(ctx.vec(input, 0), "its rows are in the order of their groups")
    ctx.bind(weight, 0, None)
    ctx.bind(weight, 1, ctx.vec(input, 1))
    out = ctx.produce(weight, 2)
    if bias is not None:
        ctx.bind(bias, -1, out)
    for vec in (ctx.vec(weight, 1), out):
        if vec is not None and len(vec) % ALIGNED == 0:
            ctx.space.tie(vec.reshape(-1, ALIGNED)[:, 1:], vec.reshape(-1, ALIGNED)[:, :1])
    ctx.count(2, [(None, input.shape[0]), (ctx.vec(weight, 1), weight.shape[1]), (out, weight.shape[2])])
    return ctx.result([None, out])


@rule("embedding")
def embedding(ctx: RuleContext, input: Labelled, weight: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """Rows of W (V, C) by index: the width C can shrink, the vocabulary can't."""
    if ctx.node.target is torch.embedding:  # which takes the weight first
        input, weight = weight, input
    ctx.bind(weight, 0, None)
    return ctx.result([*ctx.vecs(input), ctx.produce(weight, 1)])


@rule("einsum")
def einsum(ctx: RuleContext, equation: str, *operands: Any) -> Labelled:
    """Equal letters are tied."""
    tensors: list[Labelled] = list(operands[0]) if isinstance(operands[0], (tuple, list)) else list(operands)
    if not isinstance(equation, str):
        ctx.freeze_all(tensors, "no rule for this form of einsum")
        fixed: Labelled = ctx.fixed()
        return fixed
    letters, output = _subscripts(equation, [t.ndim for t in tensors])
    has_activation = not all(map(is_weight, tensors))
    labels: dict[str, Vec | None] = {}
    sizes: dict[str, int] = {}
    order = sorted(range(len(tensors)), key=lambda i: tensors[i].name is not None)  # activations first
    for i in order:
        tensor = tensors[i]
        for dim, letter in enumerate(letters[i]):
            if tensor.shape[dim] == 1 and sizes.get(letter, 1) > 1:
                continue
            if letter in labels:
                ctx.bind(tensor, dim, labels[letter])
            else:
                produced = is_weight(tensor) and has_activation and letter in output
                labels[letter] = ctx.produce(tensor, dim) if produced else ctx.vec(tensor, dim)
                sizes[letter] = tensor.shape[dim]
    if len(tensors) > 1 and set(labels) > set(output):  # without a sum it is no matrix product
        ctx.count(2, [(labels[c], sizes[c]) for c in labels])
    return ctx.result([labels[c] for c in output])


def _subscripts(equation: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the result, with letters for what `...` stands for.

    >>> _subscripts("...c,cd", [3, 2])
    (['ABc', 'cd'], 'ABd')
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    spare = [c for c in string.ascii_uppercase if c not in equation]
    counts = [n - len(o.replace("...", "")) if "..." in o else 0 for o, n in zip(operands, ndims, strict=True)]
    most = max(counts)
    letters = [o.replace("...", "".join(spare[most - n : most])) for o, n in zip(operands, counts, strict=True)]
    if arrow:
        return letters, output.replace("...", "".join(spare[:most]))
    together = inputs.replace("...", "").replace(",", "")
    once = "".join(sorted(c for c in set(together) if together.count(c) == 1))
    return letters, "".join(spare[:most]) + once


@rule("scaled_dot_product_attention")
def attention(
    ctx: RuleContext,
    query: Labelled,
    key: Labelled,
    value: Labelled,
    attn_mask: Labelled | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Labelled:
    """query (..., L, E), key (..., S, E), value (..., S, V) to (..., L, V).

    The default scale, 1 / sqrt(E), is that of the E that is left, as a normalisation sees only what was kept.
    """
    e = ctx.vec(query, -1)
    if e is not None or ctx.vec(key, -1) is not None:
        ctx.tie(e, ctx.vec(key, -1))
    for tensor in (query, key, value):
        ctx.freeze(ctx.vec(tensor, -2), "attention is taken over it")
    lead = _batch(ctx, key, value)
    if enable_gqa and lead and lead[-1] is not None:
        lead[-1] = np.repeat(lead[-1], query.shape[-3] // key.shape[-3])
    for dim, vec in zip(range(-query.ndim, -2), lead, strict=True):
        if vec is not None or ctx.vec(query, dim) is not None:
            ctx.tie(ctx.vec(query, dim), vec)
    if attn_mask is not None:
        for dim in range(-attn_mask.ndim, 0):
            if attn_mask.shape[dim] > 1:
                ctx.bind(attn_mask, dim, lead[dim + 2] if dim < -2 else None)
    v = ctx.vec(value, -1)
    pairs = [*zip(lead, query.shape[:-2], strict=True), (None, query.shape[-2]), (None, key.shape[-2])]
    ctx.count(2, [*pairs, (e, query.shape[-1])])
    ctx.count(2, [*pairs, (v, value.shape[-1])])
    return ctx.result([*lead, None, v])
