"""Recurrent layers and multi-head attention: whole layers that torch runs as one function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from prunetune.engine.labels import Labelled, LinearForm, Relation, Vec, plain
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.elementwise import join_dim
from prunetune.engine.rules.table import rule

GATES = {torch.lstm: 4, torch.gru: 3, torch.rnn_tanh: 1, torch.rnn_relu: 1}
CELLS = {torch.lstm_cell: 4, torch.gru_cell: 3, torch.rnn_tanh_cell: 1, torch.rnn_relu_cell: 1}


@rule(*GATES)
def recurrent(ctx: RuleContext, input: Labelled, *args: Any) -> Any:
    """Steps one after the other, or packed: rows of all sequences, and how many of them each step has."""
    if isinstance(args[2], (tuple, list)):
        ctx.freeze_all([args[0]], "counts the sequences")
        return _layers(ctx, input, *args[1:])
    return _layers(ctx, input, *args[:7])


def _layers(
    ctx: RuleContext,
    input: Labelled,
    state: Any,
    weights: Sequence[Labelled],
    has_biases: bool,
    num_layers: Any,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> Any:
    """All layers and directions share one hidden size, because their states are stacked."""
    for vec in ctx.vecs(input)[:-1]:
        ctx.freeze(vec, "its order matters to a recurrent layer")
    directions = 1 + bidirectional
    per_cell = len(weights) // (plain(num_layers) * directions)
    hidden, cell = _state(ctx, state, projected=per_cell % 2 == 1)
    below = ctx.vec(input, -1)
    for first in range(0, len(weights), per_cell * directions):
        for start in range(first, first + per_cell * directions, per_cell):
            _cell(ctx, input, below, hidden, cell, weights[start : start + per_cell], has_biases)
        below = None if hidden is None else np.tile(hidden, directions)
    results = [ctx.result([*[None] * (len(ctx.shape[0]) - 1), below], ctx.shape[0])]
    widths = [hidden, cell][: len(ctx.shape) - 1]
    results += [ctx.result([*[None] * (len(s) - 1), v], s) for s, v in zip(ctx.shape[1:], widths, strict=True)]
    return tuple(results)


def _state(ctx: RuleContext, state: Any, *, projected: bool = False) -> tuple[Vec | None, Vec | None]:
    """Labels of the state that is handed on, and of the cell behind it; the same unless there is a projection."""
    states = [state] if isinstance(state, Labelled) else list(state)
    for tensor in states:
        for vec in ctx.vecs(tensor)[:-1]:
            ctx.freeze(vec, "its order matters to a recurrent layer")
    hidden, cell = ctx.vec(states[0], -1), ctx.vec(states[-1], -1)
    if projected:
        inner, outer = LinearForm.count(cell, states[-1].shape[-1]), LinearForm.count(hidden, states[0].shape[-1])
        reason = "torch knows a projection by its being smaller"
        ctx.space.require(inner, outer, ctx.where, relation=Relation.POSITIVE, reason=reason)
    elif hidden is not None or cell is not None:
        hidden = cell = ctx.tie(hidden, cell)
    return hidden, cell


def _cell(
    ctx: RuleContext,
    input: Labelled,
    below: Vec | None,
    hidden: Vec | None,
    cell: Vec | None,
    weights: Sequence[Labelled],
    has_biases: bool = True,
) -> None:
    """Weights (gates * H, I) and (gates * H, S), biases (gates * H,), and (S, H) from H to a projected state."""
    into, back, *rest = weights
    biases, projections = (rest[:2], rest[2:]) if has_biases else ([], rest)
    gated = None if cell is None else np.tile(cell, into.shape[0] // len(cell))
    ctx.bind(into, 1, below)
    ctx.bind(back, 1, hidden)
    for tensor in (into, back, *biases):
        ctx.bind(tensor, 0, gated)
    for tensor in projections:
        ctx.bind(tensor, 0, hidden)
        ctx.bind(tensor, 1, cell)
    for matrix in (into, back, *projections):
        ctx.produce(matrix, 0)
        steps = [(None, n) for n in input.shape[:-1]]
        ctx.count(2, [*steps, *((ctx.vec(matrix, d), matrix.shape[d]) for d in (0, 1))])


@rule(*CELLS)
def recurrent_cell(ctx: RuleContext, input: Labelled, state: Any, *weights: Any) -> Any:
    """One step: the states are the results."""
    hidden, _ = _state(ctx, state)
    lead = ctx.vecs(input)[:-1]
    first = state if isinstance(state, Labelled) else state[0]
    for vec, other in zip(lead, ctx.vecs(first)[:-1], strict=True):
        if vec is not None or other is not None:
            ctx.tie(vec, other)
    given = [w for w in weights if w is not None]
    _cell(ctx, input, ctx.vec(input, -1), hidden, hidden, given, len(given) > 2)
    dims = [*lead, hidden]
    return ctx.result(dims) if isinstance(state, Labelled) else tuple(ctx.result(dims, s) for s in ctx.shape)


@rule("_pack_padded_sequence")
def packed(ctx: RuleContext, input: Labelled, lengths: Labelled, batch_first: bool) -> Any:
    """(N, T, ...) to rows (all steps of all sequences, ...), and how many sequences each step has."""
    ctx.freeze_all([lengths], "says where sequences end")
    steps, rest = ctx.vecs(input)[:2], ctx.vecs(input)[2:]
    for vec in steps:
        ctx.freeze(vec, "its order matters to a recurrent layer")
    return ctx.result([None, *rest], ctx.shape[0]), ctx.fixed(ctx.shape[1])


@rule("_pad_packed_sequence")
def unpacked(ctx: RuleContext, data: Labelled, batch_sizes: Labelled, *args: Any) -> Any:
    """The way back."""
    return ctx.result([None, None, *ctx.vecs(data)[1:]], ctx.shape[0]), ctx.fixed(ctx.shape[1])


@rule("pad_sequence")
def padded(ctx: RuleContext, sequences: Sequence[Labelled], *args: Any, **kwargs: Any) -> Labelled:
    """Sequences (T, ...) of unequal lengths, one beside the other."""
    for sequence in sequences:
        ctx.freeze(ctx.vec(sequence, 0), "its order matters to a recurrent layer")
    rest = [join_dim(ctx, list(sequences), d) for d in range(1, sequences[0].ndim)]
    return ctx.result([None, None, *rest])


@rule(functional.multi_head_attention_forward)
def multi_head_attention(
    ctx: RuleContext,
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
    training: bool = True,
    key_padding_mask: Labelled | None = None,
    need_weights: bool = True,
    attn_mask: Labelled | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Labelled | None = None,
    k_proj_weight: Labelled | None = None,
    v_proj_weight: Labelled | None = None,
    *args: Any,
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
    masks = (attn_mask, key_padding_mask, bias_k, bias_v)
    _tie_places(ctx, query, key, value, frozen=add_zero_attn or any(m is not None for m in masks))
    _count_attention(ctx, query, key, value, inner, out)
    places, sources = ctx.vecs(query)[:-1], ctx.vec(key, 0)
    attended, weights = ctx.shape
    if weights is None:
        return ctx.result([*places, out], attended), None
    heads = [None] * (len(weights) - query.ndim)  # unless they are averaged
    return ctx.result([*places, out], attended), ctx.result([*places[1:], *heads, places[0], sources], weights)


def _tie_places(ctx: RuleContext, query: Labelled, key: Labelled, value: Labelled, *, frozen: bool) -> None:
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


def _of_heads(ctx: RuleContext, stream: Vec, num_heads: LinearForm | int) -> Vec:
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
    ctx: RuleContext, query: Labelled, key: Labelled, value: Labelled, inner: Vec | None, out: Vec | None
) -> None:
    width = query.shape[-1]
    places = list(zip(ctx.vecs(query)[:-1], query.shape, strict=False))
    for source in (query, key, value):
        ctx.count(2, [*zip(ctx.vecs(source), source.shape, strict=True), (inner, width)])
    ctx.count(4, [*places, (ctx.vec(key, 0), key.shape[0]), (inner, width)])
    ctx.count(2, [*places, (inner, width), (out, width)])
