"""Recurrent layers and multi-head attention: whole layers that torch runs as one function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from prunetune.engine.labels import Labelled, LinearForm, Vec, plain
from prunetune.engine.rules.context import Context
from prunetune.engine.rules.table import rule

GATES = {torch.lstm: 4, torch.gru: 3, torch.rnn_tanh: 1, torch.rnn_relu: 1}


@rule(*GATES)
def recurrent(
    ctx: Context,
    input: Labelled,
    state: Any,
    weights: Any,
    has_biases: bool = True,
    num_layers: Any = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> Any:
    """All layers and directions share one hidden size, because their states are stacked.

    Weights of a layer and direction: (gates * H, I), (gates * H, H), and two biases (gates * H,).
    """
    gates = GATES[ctx.node.target]  # type: ignore[index]
    states = [state] if isinstance(state, Labelled) else list(state)
    per_cell = 4 if has_biases else 2
    if not isinstance(weights, (tuple, list)) or len(weights) != per_cell * plain(num_layers) * (1 + bidirectional):
        tensors = [input, *states, *(weights if isinstance(weights, (tuple, list)) else [])]
        ctx.freeze_all(tensors, "no rule for this form (packed sequences, projections)")
        return ctx.fixed()
    for vec in ctx.vecs(input)[:-1]:
        ctx.freeze(vec, "its order matters to a recurrent layer")
    hidden = ctx.vec(states[0], -1)
    for other in states[1:]:
        if hidden is not None or ctx.vec(other, -1) is not None:
            ctx.tie(hidden, ctx.vec(other, -1))
    directions = 1 + bidirectional
    below = ctx.vec(input, -1)
    gated = None if hidden is None else np.tile(hidden, gates)
    for first in range(0, len(weights), per_cell * directions):
        for cell in range(first, first + per_cell * directions, per_cell):
            matrices, biases = weights[cell : cell + 2], weights[cell + 2 : cell + per_cell]
            ctx.bind(matrices[0], 1, below)
            ctx.bind(matrices[1], 1, hidden)
            for tensor in (*matrices, *biases):
                ctx.bind(tensor, 0, gated)
            ctx.produce(matrices[0], 0)
            ctx.produce(matrices[1], 0)
            steps = [(None, n) for n in input.shape[:-1]]
            for matrix in matrices:
                ctx.count(2, [*steps, *((ctx.vec(matrix, d), matrix.shape[d]) for d in (0, 1))])
        below = None if hidden is None else np.tile(hidden, directions)
    results = [ctx.result([*[None] * (len(ctx.shape[0]) - 1), below], ctx.shape[0])]
    results += [ctx.result([*[None] * (len(s) - 1), hidden], s) for s in ctx.shape[1:]]
    return tuple(results)


@rule(functional.multi_head_attention_forward)
def multi_head_attention(
    ctx: Context,
    query: Labelled,
    key: Labelled,
    value: Labelled,
    embed_dim_to_check: LinearForm | int,
    num_heads: LinearForm | int,
    in_proj_weight: Labelled | None,
    in_proj_bias: Labelled | None,
    bias_k: Labelled | None,
    bias_v: Labelled | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Labelled,
    out_proj_bias: Labelled | None,
    q_proj_weight: Labelled | None = None,
    k_proj_weight: Labelled | None = None,
    v_proj_weight: Labelled | None = None,
    **kwargs: Any,
) -> Any:
    """query (L, N, E), key and value (S, N, E): E is also the width of all heads together.

    So position d of every head in the stream goes with position d of every head in q, k and v (or, for whole heads,
    all positions of a head go). The scale is that of the head size that is left.
    """
    stream = ctx.vec(query, -1)
    ctx.require(embed_dim_to_check, stream, query.shape[-1])
    inner = None if stream is None else _of_heads(ctx, stream, num_heads)
    if inner is None:
        ctx.require(num_heads, None, plain(num_heads))
    if in_proj_weight is not None:
        ctx.bind(in_proj_weight, 0, _times(inner, 3))
        ctx.bind(in_proj_weight, 1, stream)
        ctx.produce(in_proj_weight, 0)
        for other in (key, value):
            if stream is not None or ctx.vec(other, -1) is not None:
                ctx.tie(stream, ctx.vec(other, -1))
    separate = ((q_proj_weight, query), (k_proj_weight, key), (v_proj_weight, value))
    for weight, source in separate:
        if weight is not None:
            ctx.bind(weight, 0, inner)
            ctx.bind(weight, 1, ctx.vec(source, -1))
            ctx.produce(weight, 0)
    ctx.bind(in_proj_bias, 0, _times(inner, 3))
    for bias in (bias_k, bias_v):
        ctx.bind(bias, 2, inner)
    ctx.bind(out_proj_weight, 1, inner)
    out = ctx.produce(out_proj_weight, 0)
    ctx.bind(out_proj_bias, 0, out)
    masks = (kwargs.get("attn_mask"), kwargs.get("key_padding_mask"), bias_k, bias_v)
    _tie_places(ctx, query, key, value, frozen=add_zero_attn or any(m is not None for m in masks))
    _count_attention(ctx, query, key, value, inner, out)
    places, sources = ctx.vecs(query)[:-1], ctx.vec(key, 0)
    attended, weights = ctx.shape
    if weights is None:
        return ctx.result([*places, out], attended), None
    heads = [None] * (len(weights) - query.ndim)  # unless they are averaged
    return ctx.result([*places, out], attended), ctx.result([*places[1:], *heads, places[0], sources], weights)


def _tie_places(ctx: Context, query: Labelled, key: Labelled, value: Labelled, *, frozen: bool) -> None:
    """Places of keys and values go together, and all batches do."""
    pairs = [(ctx.vec(key, 0), ctx.vec(value, 0))]
    if query.ndim > 2:
        pairs += [(ctx.vec(query, 1), ctx.vec(other, 1)) for other in (key, value)]
    for left, right in pairs:
        if left is not None or right is not None:
            ctx.tie(left, right)
    if frozen:
        for tensor in (query, key, value):
            for vec in ctx.vecs(tensor)[:-1]:
                ctx.freeze(vec, "attention is taken over it")


def _of_heads(ctx: Context, stream: Vec, num_heads: LinearForm | int) -> Vec:
    """The labels of all heads together: the same of each head goes, or whole heads."""
    grid = stream.reshape(plain(num_heads), -1)
    settable = isinstance(num_heads, LinearForm) and bool(num_heads.attributes)
    if ctx.choose([0, 1] if settable and grid.shape[1] > 1 else [1]) == 0:
        ctx.space.tie(grid[:, 1:], grid[:, :1])
        ctx.require(num_heads, grid[:, 0])
        ctx.chosen(grid[:, 0])
        return stream
    ctx.require(num_heads, None, plain(num_heads))
    ctx.space.tie(grid[1:], grid[:1])
    ctx.chosen(grid[0])
    return np.tile(grid[0], len(grid))


def _times(vec: Vec | None, n: int) -> Vec | None:
    return None if vec is None else np.tile(vec, n)


def _count_attention(
    ctx: Context, query: Labelled, key: Labelled, value: Labelled, inner: Vec | None, out: Vec | None
) -> None:
    width = query.shape[-1]
    places = list(zip(ctx.vecs(query)[:-1], query.shape, strict=False))
    for source in (query, key, value):
        ctx.count(2, [*zip(ctx.vecs(source), source.shape, strict=True), (inner, width)])
    ctx.count(4, [*places, (ctx.vec(key, 0), key.shape[0]), (inner, width)])
    ctx.count(2, [*places, (inner, width), (out, width)])
