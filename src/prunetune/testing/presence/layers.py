"""What layers mean for tensors that know what is gone: contractions, normalisations, windows, recurrence, attention."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prunetune.testing.presence.functions import mean_of, reduced
from prunetune.testing.presence.tensors import (
    Keep,
    Present,
    agree,
    keeps_of,
    mask_of,
    means,
    outer,
    present,
    value_of,
    whole,
)

# -- sums over an index ------------------------------------------------------------------------------------------------


@means("linear")
def linear(func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out, within = keeps_of(weight)
    agree("linear (input)", keeps_of(x)[-1], within)
    agree("linear (bias)", out, *([] if bias is None else keeps_of(bias)))
    value = func(value_of(x, 0.0), value_of(weight, 0.0), value_of(bias, 0.0))
    return present(value, outer([*keeps_of(x)[:-1], out]), "linear")


@means("matmul", "bmm", "mm", "mv", "dot", "vdot", Tensor.__rmatmul__)
def matmul(func: Any, a: Tensor, b: Tensor) -> Tensor:
    if func is Tensor.__rmatmul__:
        a, b = b, a
    left, right = list(keeps_of(a)), list(keeps_of(b))
    agree("matmul", left.pop(), right.pop(-2 if b.ndim > 1 else -1))
    rows, columns = left[-1:], right[-1:]
    leads = left[:-1], right[:-1]
    lead = []
    for dim in range(-max(map(len, leads)), 0):
        candidates = [part[dim] for part in leads if len(part) >= -dim]
        full = [k for k in candidates if len(k) == max(map(len, candidates))]
        agree("matmul (batch)", *full)
        lead.append(full[0])
    value = torch.matmul(value_of(a, 0.0), value_of(b, 0.0))
    keeps = [*lead, *rows, *columns]
    return present(value, outer(keeps), "matmul") if keeps else value


@means("addmm", "baddbmm")
def addmm(func: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.add(torch.matmul(a, b), x)


@means("einsum")
def einsum(func: Any, equation: str, *operands: Any) -> Tensor:
    tensors = list(operands[0]) if isinstance(operands[0], (tuple, list)) else list(operands)
    most = max(t.ndim for t in tensors)  # the programs' only equation with dots has one letter beside them
    inputs, output = equation.replace(" ", "").replace("...", "ABC"[: most - 1]).split("->")
    letters: dict[str, Keep] = {}
    for names, tensor in zip(inputs.split(","), tensors, strict=True):
        for name, keep in zip(names, keeps_of(tensor), strict=True):
            agree(f"einsum {equation} ({name})", letters.setdefault(name, keep), keep)
    value = torch.einsum(equation, [value_of(t, 0.0) for t in tensors])
    return present(value, outer([letters[c] for c in output]), "einsum")


@means("embedding")
def embedding(func: Any, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    rows, width = keeps_of(weight)
    whole("embedding (its vocabulary)", rows)
    value = func(x, value_of(weight), *args, **kwargs)
    return present(value, outer([*keeps_of(x), width]), "embedding")


def _convolve(names: tuple[str, ...], transposed: bool) -> Any:
    def convolve(func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        groups = {**dict(zip(names, args, strict=False)), **kwargs}.get("groups", 1)
        keeps, places = keeps_of(x), keeps_of(x)[2:]
        whole("a convolution (its window)", *keeps_of(weight)[2:])
        out = _filters(keeps[1], keeps_of(weight)[0], keeps_of(weight)[1], groups, transposed)
        agree("a convolution (bias)", out, *([] if bias is None else keeps_of(bias)))
        value = func(value_of(x, 0.0), value_of(weight, 0.0), value_of(bias, 0.0), *args, **kwargs)
        if value.shape[2:] != x.shape[2:] or any(n > 1 for n in weight.shape[2:]):
            whole("a convolution (places)", *places)
            places = tuple(torch.ones(n, dtype=torch.bool) for n in value.shape[2:])
        return present(value, outer([keeps[0], out, *places]), "a convolution")

    return convolve


def _filters(x: Keep, first: Keep, second: Keep, groups: int, transposed: bool) -> Keep:
    """Which outputs are there. Groups may go as a whole; those that stay must be alike."""
    where = f"a convolution with {groups} groups"
    inputs = list(x.reshape(groups, -1))
    if transposed:  # weight (input, output within a group)
        agree(where, x, first)
        outputs = [second if bool(i.any()) else torch.zeros_like(second) for i in inputs]
    else:  # weight (output, input within a group)
        outputs = list(first.reshape(groups, -1))
    stay = [(i, o) for i, o in zip(inputs, outputs, strict=True) if bool(i.any()) or bool(o.any())]
    if not transposed:
        for i, _ in stay:
            agree(where, second, i)
    agree(f"{where} (numbers)", *(torch.stack([i.sum(), o.sum()]) for i, o in stay))
    return torch.cat(outputs)


_ORDINARY, _TRANSPOSED = ("stride", "padding", "dilation", "groups"), ("stride", "padding", "output_padding", "groups")
means("conv1d", "conv2d", "conv3d")(_convolve(_ORDINARY, False))
means("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")(_convolve(_TRANSPOSED, True))


# -- normalisations: they see what is there ----------------------------------------------------------------------------


@means("softmax", "log_softmax")
def softmax(func: Any, x: Tensor, dim: int, *args: Any, **kwargs: Any) -> Tensor:
    return present(func(value_of(x, -torch.inf), dim), mask_of(x), "softmax")


@means("normalize")
def normalize(func: Any, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    return present(func(value_of(x, 0.0), p, dim, eps), mask_of(x), "normalize")


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = value_of(x) - mean_of(x, dims, True)
    variance = mean_of(present(centred.square(), mask_of(x), "a normalisation"), dims, True)
    return present(centred / (variance + eps).sqrt(), mask_of(x), "a normalisation")


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if weight is not None:
        x = x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@means("layer_norm")
def layer_norm(func: Any, x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    return _scaled(_standardised(x, tuple(range(-len(shape), 0)), eps), weight, bias, tuple(shape))


@means("rms_norm")
def rms_norm(func: Any, x: Tensor, shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    squares = mean_of(present(value_of(x).square(), mask_of(x), "rms_norm"), dims, True)
    scale = (squares + (torch.finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return _scaled(present(value_of(x) * scale, mask_of(x), "rms_norm"), weight, None, tuple(shape))


@means("batch_norm", "instance_norm")
def channel_norm(
    func: Any,
    x: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    use_input_stats: bool = False,
) -> Tensor:
    shape = (1, -1, *[1] * (x.ndim - 2))
    agree(func.__name__, *(keeps_of(t)[0] for t in (running_mean, running_var) if t is not None))
    if training or use_input_stats:
        dims = (*(() if use_input_stats else (0,)), *range(2, x.ndim))
        return _scaled(_standardised(x, dims, eps), weight, bias, shape)
    centred = x - running_mean.reshape(shape)
    return _scaled(centred / (running_var.reshape(shape) + eps).sqrt(), weight, bias, shape)


@means("group_norm")
def group_norm(func: Any, x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    counts = keeps_of(x)[1].reshape(groups, -1).sum(1)
    agree("group_norm (numbers)", *(n for n in counts if n))
    grouped = value_of(x).reshape(x.shape[0], groups, -1)
    there = mask_of(x).reshape(x.shape[0], groups, -1)
    number = there.sum(2, True)
    centred = grouped - torch.where(there, grouped, 0.0).sum(2, True) / number
    variance = torch.where(there, centred.square(), 0.0).sum(2, True) / number
    value = (centred / (variance + eps).sqrt()).reshape(x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return _scaled(present(value, mask_of(x), "group_norm"), weight, bias, shape)


@means("prelu")
def prelu(func: Any, x: Tensor, weight: Tensor) -> Tensor:
    slope = weight.reshape(1, -1, *[1] * (x.ndim - 2)) if weight.numel() > 1 else weight
    return torch.where(x > 0, x, slope * x)


@means("glu")
def glu(func: Any, x: Tensor, dim: int = -1) -> Tensor:
    first, second = x.chunk(2, dim)
    return first * second.sigmoid()


@means(torch._weight_norm)
def weight_norm(func: Any, direction: Tensor, length: Tensor, dim: int = 0) -> Tensor:
    others = tuple(d for d in range(direction.ndim) if d != dim)
    size = value_of(direction, 0.0).square().sum(others, True).sqrt()
    return direction * (length / reduced(direction, size, others, True, "weight_norm"))


# -- windows -----------------------------------------------------------------------------------------------------------


@means(*(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)))
@means("interpolate")
def windows(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Channel by channel, over places that must all be there."""
    keeps = keeps_of(x)
    whole(func.__name__, *keeps[2:])
    value = func(value_of(x, 0.0), *args, **kwargs)
    return present(value, outer([*keeps[:2], *(torch.ones(n, dtype=torch.bool) for n in value.shape[2:])]), "windows")


# -- recurrence and attention ------------------------------------------------------------------------------------------


@means(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
def recurrent(func: Any, x: Tensor, *args: Any) -> Any:
    """What is gone is zero, read by nothing, and writes nothing. Packed sequences come with their sizes."""
    packed = [args[0]] if isinstance(args[2], (list, tuple)) else []
    state, weights, biases, layers, _, _, bidirectional = args[len(packed) : len(packed) + 7]
    directions = 1 + bidirectional
    per_cell = len(weights) // (layers * directions)
    hidden = keeps_of(weights[1])[1]
    inner = keeps_of(weights[per_cell - 1])[1] if per_cell % 2 else hidden
    whole("recurrence (steps)", *keeps_of(x)[:-1])
    for i in range(0, len(weights), per_cell):
        below = keeps_of(x)[-1] if i < per_cell * directions else hidden.repeat(directions)
        _cell(below, hidden, inner, weights[i : i + per_cell], biases)
    filled = [value_of(s, 0.0) for s in ([state] if isinstance(state, Tensor) else state)]
    state = filled[0] if isinstance(state, Tensor) else tuple(filled)
    values = [value_of(w, 0.0) for w in weights]
    out, *states = func(value_of(x, 0.0), *packed, state, values, *args[len(packed) + 2 :])
    widths = (hidden, inner)[: len(states)]
    last = [present(s, outer([*keeps_of(s)[:-1], w]), "recurrence") for s, w in zip(states, widths, strict=True)]
    everything = outer([*keeps_of(out)[:-1], hidden.repeat(directions)])
    return (present(out, everything, "recurrence"), *last)


def _cell(below: Keep, hidden: Keep, inner: Keep, weights: Any, biases: bool) -> None:
    into, back, *rest = (keeps_of(w) for w in weights)
    gates = len(into[0]) // len(inner)
    agree("recurrence (input)", below, into[1])
    agree("recurrence (state)", hidden, back[1])
    agree("recurrence (gates)", inner.repeat(gates), into[0], back[0], *(b[0] for b in rest[: 2 * biases]))
    for out, within in rest[2 * biases :]:
        agree("recurrence (projection)", hidden, out)
        agree("recurrence (projected)", inner, within)


@means(torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell)
def recurrent_cell(func: Any, x: Tensor, state: Any, *weights: Any) -> Any:
    states = [state] if isinstance(state, Tensor) else list(state)
    given = [w for w in weights if w is not None]
    keeps = keeps_of(x)
    hidden = keeps_of(weights[1])[1]
    for s in states:
        if isinstance(s, Present) or bool(s.any()):
            agree("a cell (state)", keeps_of(s)[-1], hidden)
    _cell(keeps[-1], hidden, hidden, given, len(given) > 2)
    filled = [value_of(s, 0.0) for s in states]
    out = func(
        value_of(x, 0.0), filled[0] if isinstance(state, Tensor) else filled, *(value_of(w, 0.0) for w in weights)
    )
    mask = outer([*keeps[:-1], hidden])
    return present(out, mask, "a cell") if isinstance(state, Tensor) else tuple(present(o, mask, "a cell") for o in out)


@means(torch._pack_padded_sequence)
def packed(func: Any, x: Tensor, lengths: Tensor, batch_first: bool) -> Any:
    whole("packed sequences", *keeps_of(x)[:2])
    rows, sizes = func(value_of(x, 0.0), lengths, batch_first)
    return present(rows, outer([torch.ones(len(rows), dtype=torch.bool), *keeps_of(x)[2:]]), "packed sequences"), sizes


@means(torch._pad_packed_sequence)
def unpacked(func: Any, rows: Tensor, sizes: Tensor, *args: Any) -> Any:
    padded, lengths = func(value_of(rows, 0.0), sizes, *args)
    steps = [torch.ones(n, dtype=torch.bool) for n in padded.shape[:2]]
    return present(padded, outer([*steps, *keeps_of(rows)[1:]]), "packed sequences"), lengths


@means("scaled_dot_product_attention")
def attention(
    func: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    assert not dropout_p, "the oracle is for evaluation mode"
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scale = 1 / math.sqrt(int(keeps_of(q)[-1].sum())) if scale is None else scale
    scores = torch.matmul(q, k.transpose(-2, -1)) * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, dtype=scores.dtype).masked_fill(~attn_mask, -math.inf)
    scores = scores if attn_mask is None else scores + attn_mask
    return torch.matmul(scores.softmax(-1), v)


@means(F.multi_head_attention_forward)
def multi_head_attention(
    func: Any, q: Tensor, k: Tensor, v: Tensor, width: int, heads: int, *args: Any, **kw: Any
) -> Any:
    """(length, batch, width); the scale is that of the head size that is left."""
    weight, bias, _, _, _, _, out_weight, out_bias = args
    apart = kw.get("use_separate_proj_weight")
    weights = [kw[f"{n}_proj_weight"] for n in "qkv"] if apart else weight.chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).reshape(*x.shape[:2], heads, -1).permute(1, 2, 0, 3)
        for x, w, b in zip((q, k, v), weights, biases, strict=True)
    )
    scale = 1 / math.sqrt(int(keeps_of(q)[-1].sum()))
    scores = (torch.matmul(q, k.transpose(-2, -1)) * scale).softmax(-1)
    out = torch.matmul(scores, v).permute(2, 0, 1, 3)
    result = F.linear(out.reshape(*out.shape[:2], -1), out_weight, out_bias)
    return result, scores.mean(1) if kw.get("need_weights") else None
