"""Operations of random programs that have no weights of their own (attention's projections apart)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from fuzz import OPERATIONS, Dice, Operation, Options, Value
from fuzz_layers import FIRST, LAST
from torch import Tensor, nn

ALL = (*FIRST, *LAST)


class Function(nn.Module):
    """A function with its options."""

    def __init__(self, run: Callable[..., Any], options: Options) -> None:
        super().__init__()
        self.run, self.options = run, options

    def forward(self, *tensors: Tensor) -> Any:
        return self.run(*tensors, **self.options)


def function(takes: tuple[str, ...], draw: Any, **kwargs: Any) -> Any:
    """Register a function of tensors and options as the operation of its name."""

    def register(run: Any) -> Any:
        def build(*values: Value, **options: Any) -> nn.Module:
            return Function(run, options)

        assert run.__name__ not in OPERATIONS
        OPERATIONS[run.__name__] = Operation(takes, draw, build, has_weights=False, **kwargs)
        return run

    return register


def alike(a: Value, b: Value) -> bool:
    return (a.layout, a.shape) == (b.layout, b.shape)


def alike_but_for_channels(a: Value, b: Value) -> bool:
    return (a.layout, a.places) == (b.layout, b.places)


def nothing(dice: Dice, *values: Value) -> Options:
    return {}


def along_channels(dice: Dice, *values: Value) -> Options:
    return {"dim": values[0].channel}


# -- element by element ------------------------------------------------------------------------------------------------

ACTIVATIONS = ("relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "leaky_relu", "elu", "softplus", "mish", "relu6")


@function(ALL, lambda dice, x: {"kind": dice.one_of(ACTIVATIONS)})
def activation(x: Tensor, kind: str) -> Tensor:
    return getattr(F, kind)(x)


@function(ALL, nothing)
def relu_in_place(x: Tensor) -> Tensor:
    return (x * 1.5).relu_()


@function(ALL, lambda dice, x: {"p": dice.one_of([0.1, 0.5])})
def dropout(x: Tensor, p: float) -> Tensor:
    return F.dropout(x, p, training=False)


@function(ALL, lambda dice, x: {"kind": dice.one_of(["scale", "shift", "clamp", "square"])})
def by_number(x: Tensor, kind: str) -> Tensor:
    return {"scale": x * 0.7, "shift": 1.0 - x, "clamp": x.clamp(-1.0, 2.0), "square": x.square()}[kind]


@function(ALL, nothing, partner=alike)
def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@function(ALL, lambda dice, x, y: {"kind": dice.one_of(["sub", "mul", "maximum", "minimum"])}, partner=alike)
def binary(x: Tensor, y: Tensor, kind: str) -> Tensor:
    return getattr(torch, kind)(x, y)


@function(ALL, nothing, partner=alike)
def where(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x > 0, x, y)


@function(ALL, nothing, partner=alike)
def add_in_place(x: Tensor, y: Tensor) -> Tensor:
    x = x * 0.5
    x += y
    return x


def _gates(x: Value, y: Value) -> bool:
    """Same channels, and one place or all."""
    ones = all(n == 1 for n in y.places)
    return x.layout == y.layout and x.channels == y.channels and (ones or x.places == y.places)


@function(ALL, nothing, partner=_gates)
def gate(x: Tensor, y: Tensor) -> Tensor:
    return x * y.sigmoid()


@function(FIRST, nothing, partner=lambda x, y: y.layout == "vector" and x.channels == y.channels)
def gate_by_vector(x: Tensor, y: Tensor) -> Tensor:
    return x * y.sigmoid().reshape(*y.shape, *[1] * (x.ndim - 2))


# -- joining and splitting ---------------------------------------------------------------------------------------------


@function(ALL, along_channels, partner=alike_but_for_channels, partners=(1, 1, 2, 3))
def cat(*xs: Tensor, dim: int) -> Tensor:
    return torch.cat(xs, dim)


@function(ALL, along_channels)
def cat_with_itself(x: Tensor, dim: int) -> Tensor:
    return torch.cat([x, x.relu()], dim)


def _other_place(x: Value, y: Value) -> bool:
    dim = 1 if x.channel > 1 else 2
    return x.layout == y.layout and x.shape[:dim] == y.shape[:dim] and x.shape[dim + 1 :] == y.shape[dim + 1 :]


@function(
    ("image", "line", "last", "sequence"), lambda dice, x, y: {"dim": 1 if x.channel > 1 else 2}, partner=_other_place
)
def cat_places(*xs: Tensor, dim: int) -> Tensor:
    return torch.cat(xs, dim)


@function(ALL, nothing, partner=alike, partners=(1, 2))
def stack_sum(*xs: Tensor) -> Tensor:
    return torch.stack(xs, 1).sum(1)


@function(ALL, nothing, partner=alike)
def stack_softmax(*xs: Tensor) -> Tensor:
    both = torch.stack(xs, 0)
    return (both * both.softmax(0)).sum(0)


@function(ALL, lambda dice, x: {"chunks": dice.one_of([2, 2, 3]), "dim": x.channel} if x.channels > 2 else None)
def chunk(x: Tensor, chunks: int, dim: int) -> tuple[Tensor, ...]:
    return x.chunk(chunks, dim)


def _split_options(dice: Dice, x: Value) -> Options | None:
    if x.channels < 3:
        return None
    first = dice.one_of(range(1, x.channels))
    return {"sizes": [first, x.channels - first], "dim": x.channel}


@function(ALL, _split_options)
def split(x: Tensor, sizes: list[int], dim: int) -> tuple[Tensor, ...]:
    return x.split(sizes, dim)


@function(ALL, lambda dice, x: {"dim": x.channel} if x.channels % 2 == 0 else None)
def split_in_half(x: Tensor, dim: int) -> tuple[Tensor, ...]:
    return torch.split(x, x.shape[dim] // 2, dim)


@function(FIRST, lambda dice, x: {} if x.channels % 2 == 0 else None)
def halves_by_slices(x: Tensor) -> tuple[Tensor, Tensor]:
    half = x.shape[1] // 2
    return x[:, :half], x[:, half:]


def _slice_options(dice: Dice, x: Value) -> Options | None:
    if x.channels < 3:
        return None
    start = dice.one_of(range(x.channels - 1))
    return {"start": start, "stop": dice.one_of(range(start + 1, x.channels + 1)), "step": dice.one_of([1, 1, 2])}


@function(ALL, lambda dice, x: {**o, "dim": x.channel} if (o := _slice_options(dice, x)) else None)
def slice_channels(x: Tensor, start: int, stop: int, step: int, dim: int) -> Tensor:
    return x[(slice(None),) * dim + (slice(start, stop, step),)]


@function(
    ALL, lambda dice, x: {"dim": x.channel, "length": dice.one_of(range(1, x.channels))} if x.channels > 1 else None
)
def narrow(x: Tensor, dim: int, length: int) -> Tensor:
    return x.narrow(dim, 0, length)


@function(FIRST, lambda dice, x: {"index": [dice.one_of(range(x.channels)) for _ in range(4)]})
def take_by_list(x: Tensor, index: list[int]) -> Tensor:
    return x[:, index]


@function(("sequence",), lambda dice, x: {"index": dice.one_of([0, -1])}, gives="vector")
def one_token(x: Tensor, index: int) -> Tensor:
    return x[:, index]


@function(("sequence",), nothing, gives="vector")
def tokens_apart(x: Tensor) -> tuple[Tensor, ...]:
    return x.unbind(1)


@function(("image",), nothing, gives="line")
def one_row(x: Tensor) -> Tensor:
    return x.select(2, 0)


# -- the order of channels ---------------------------------------------------------------------------------------------


@function(ALL, along_channels)
def flip(x: Tensor, dim: int) -> Tensor:
    return x.flip(dim)


@function(ALL, lambda dice, x: {"shifts": dice.one_of([1, -2]), "dim": x.channel})
def roll(x: Tensor, shifts: int, dim: int) -> Tensor:
    return x.roll(shifts, dim)


@function(("image", "last"), lambda dice, x: {"shifts": 1, "dim": x.channel - 1 if x.channel == 3 else 2})
def roll_places(x: Tensor, shifts: int, dim: int) -> Tensor:
    return torch.roll(x, shifts, dim)


@function(("image",), lambda dice, x: {"groups": g} if (g := dice.divisor(x.channels)) > 1 else None)
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


@function(("line",), lambda dice, x: {"groups": g} if (g := dice.divisor(x.channels)) > 1 else None)
def channel_shuffle_flat(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


@function(("image",), lambda dice, x: {} if x.channels % 4 == 0 else None)
def pixel_shuffle(x: Tensor) -> Tensor:
    return F.pixel_shuffle(x, 2)


def _even(dice: Dice, x: Value) -> Options | None:
    return {} if all(n % 2 == 0 for n in x.places) else None


@function(("image",), _even)
def pixel_unshuffle(x: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, 2)


@function(("image",), _even)
def space_to_depth(x: Tensor) -> Tensor:
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


@function(("last",), _even)
def patch_merging(x: Tensor) -> Tensor:
    return torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)


@function(FIRST, lambda dice, x: {"times": 2})
def repeat(x: Tensor, times: int) -> Tensor:
    return x.repeat(1, times, *[1] * (x.ndim - 2))


@function(ALL, lambda dice, x: {"times": 2, "dim": x.channel})
def repeat_interleave(x: Tensor, times: int, dim: int) -> Tensor:
    return x.repeat_interleave(times, dim)


@function(("image",), lambda dice, x: {"before": dice.one_of([0, 1]), "after": dice.one_of([1, 2])})
def pad_channels(x: Tensor, before: int, after: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, before, after))


@function(("image",), nothing)
def pad_places(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1))


# -- layouts -----------------------------------------------------------------------------------------------------------


@function(("image",), nothing, gives="last")
def to_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


@function(("last",), nothing, gives="image")
def to_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


@function(("image", "volume"), nothing, gives="sequence")
def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


@function(("sequence",), nothing, gives="line")
def tokens_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


@function(("line",), nothing, gives="sequence")
def tokens_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 1)


@function(("line", "sequence"), nothing)
def exchanged(x: Tensor) -> Tensor:
    """Places become channels."""
    return x.transpose(1, 2)


@function(("line",), nothing, gives="image")
def with_height(x: Tensor) -> Tensor:
    return x.unsqueeze(2)


@function(("volume",), nothing, gives="image")
def flat_depth(x: Tensor) -> Tensor:
    return x.flatten(2, 3)


@function(("image",), nothing, gives="volume")
def with_depth(x: Tensor) -> Tensor:
    return x[:, :, None]


@function((*FIRST, "last", "sequence"), nothing, gives="vector")
def flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


@function((*FIRST, "last", "sequence"), nothing, gives="vector")
def flatten_by_view(x: Tensor) -> Tensor:
    return x.reshape(x.size(0), -1)


@function((*FIRST, "last"), lambda dice, x: {"size": math.prod(x.shape[1:])}, gives="vector")
def flatten_hard_coded(x: Tensor, size: int) -> Tensor:
    return x.reshape(-1, size)


@function(("image",), nothing, gives="line")
def flat_places(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h * w)


@function(("image",), lambda dice, x: {} if x.places[0] > 1 else None, gives="line")
def height_into_channels(x: Tensor) -> Tensor:
    return x.flatten(1, 2)


def _foldable(dice: Dice, x: Value) -> Options | None:
    return {} if x.channels % 4 == 0 and x.channels > 4 else None


@function(("vector",), _foldable, gives="image")
def unflatten(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 2, 2))


@function(("vector",), _foldable, gives="image")
def unflatten_by_view(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1] // 4, 2, 2)


@function(("vector",), _foldable, gives="sequence")
def vector_to_tokens(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], 4, -1)


# -- over channels and places ------------------------------------------------------------------------------------------


def _places_options(dice: Dice, x: Value) -> Options | None:
    places = tuple(d for d in range(1, len(x.shape)) if d != x.channel)
    return {"kind": dice.one_of(["mean", "sum", "amax", "logsumexp"]), "dims": places}


@function((*FIRST, "last", "sequence"), _places_options, gives="vector")
def pool_places(x: Tensor, kind: str, dims: tuple[int, ...]) -> Tensor:
    return getattr(x, kind)(dims)


@function((*FIRST, "last", "sequence"), _places_options)
def squeeze_places(x: Tensor, kind: str, dims: tuple[int, ...]) -> Tensor:
    return getattr(x, kind)(dims, keepdim=True)


@function(ALL, lambda dice, x: {"kind": dice.one_of(["mean", "sum", "amax"]), "dim": x.channel})
def over_channels(x: Tensor, kind: str, dim: int) -> Tensor:
    return getattr(x, kind)(dim, keepdim=True)


@function(ALL, along_channels)
def centred(x: Tensor, dim: int) -> Tensor:
    return x - x.mean(dim, keepdim=True)


@function(FIRST, nothing)
def spatial_gate(x: Tensor) -> Tensor:
    """As CBAM's, without its convolution."""
    both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * both.sum(1, keepdim=True).sigmoid()


@function(ALL, along_channels)
def softmax(x: Tensor, dim: int) -> Tensor:
    return x.softmax(dim)


@function(("image", "last"), lambda dice, x: {"dim": 2})
def softmax_places(x: Tensor, dim: int) -> Tensor:
    return F.softmax(x, dim)


@function(ALL, along_channels)
def normalise(x: Tensor, dim: int) -> Tensor:
    return F.normalize(x, dim=dim)


@function(ALL, along_channels)
def normalise_by_norm(x: Tensor, dim: int) -> Tensor:
    return x / (x.norm(dim=dim, keepdim=True) + 1e-3)


@function(FIRST, lambda dice, x: {} if x.channels % 2 == 0 else None)
def maxout(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:]).amax(2)


@function(ALL, lambda dice, x: {"dim": x.channel} if x.channels % 2 == 0 else None)
def glu(x: Tensor, dim: int) -> Tensor:
    return F.glu(x, dim)


@function(ALL, along_channels)
def cumulated(x: Tensor, dim: int) -> Tensor:
    return x.cumsum(dim=dim)


@function(FIRST, lambda dice, x: {"kind": dice.one_of(["max", "avg"])} if min(x.places) > 1 else None)
def pool(x: Tensor, kind: str) -> Tensor:
    return getattr(F, f"{kind}_pool{x.ndim - 2}d")(x, 2)


@function(FIRST, lambda dice, x: {"size": dice.one_of([1, 2])})
def adaptive_pool(x: Tensor, size: int) -> Tensor:
    return getattr(F, f"adaptive_avg_pool{x.ndim - 2}d")(x, size)


@function(FIRST, lambda dice, x: {"factor": 2})
def interpolate(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor)


@function(
    ALL, lambda dice, x, y: {}, partner=lambda x, y: x.layout == y.layout and x.places == y.places and y.channels == 1
)
def expand(x: Tensor, y: Tensor) -> Tensor:
    """The copies meet `x` at once: which of them stay is nobody's choice else, and the oracle has to know."""
    return y.expand_as(x) - x


@function(FIRST, lambda dice, x: {"channels": dice.one_of([4, 6])} if x.channels == 1 else None)
def expand_hard_coded(x: Tensor, channels: int) -> Tensor:
    return x.expand(-1, channels, *[-1] * (x.ndim - 2))


# -- products of activations -------------------------------------------------------------------------------------------


def _same_channels(x: Value, y: Value) -> bool:
    return x.layout == y.layout and x.channels == y.channels


def _same_places(x: Value, y: Value) -> bool:
    return x.layout == y.layout and x.places == y.places


@function(("sequence",), nothing, partner=_same_channels)
def similarity(x: Tensor, y: Tensor) -> Tensor:
    return x @ y.transpose(1, 2)


@function(("sequence",), nothing, partner=_same_places)
def covariance(x: Tensor, y: Tensor) -> Tensor:
    return torch.bmm(x.transpose(1, 2), y)


@function(("sequence",), nothing, partner=_same_channels)
def similarity_by_einsum(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("ntc,nsc->nts", x, y)


@function(("vector",), nothing, partner=lambda x, y: y.layout == "image" and x.channels == y.channels, gives="image")
def weighted_by_einsum(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("nc,nchw->nchw", x, y)


def _heads(dice: Dice, x: Value, *others: Value) -> Options | None:
    return {"heads": dice.divisor(x.channels, *(v.channels for v in others))}


@function(("sequence",), _heads, partner=alike, partners=(2,))
def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    n, t, c = q.shape
    q, k, v = (x.view(n, -1, heads, c // heads).transpose(1, 2) for x in (q, k, v))
    scores = (q @ k.transpose(-2, -1)) * 0.5
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c)


@function(("sequence",), _heads, partner=alike, partners=(2,))
def attention_by_function(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """With one projection for queries, keys and values, or `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int, kind: str) -> None:
        super().__init__()
        self.kind, self.num_heads = kind, heads
        if kind == "module":
            self.inner = nn.MultiheadAttention(width, heads, batch_first=True)
        else:
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "module":
            return self.inner(x, x, x, need_weights=False)[0]
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v) if self.kind == "function" else attend(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v


def _self_options(dice: Dice, x: Value) -> Options | None:
    return {"heads": dice.divisor(x.channels), "kind": dice.one_of(["module", "function", "written out"])}


def self_attention(x: Value, heads: int, kind: str) -> nn.Module:
    return SelfAttention(x.channels, heads, kind)


class GroupedQueries(nn.Module):
    """Several heads of queries to one of keys and values, as in Llama."""

    def __init__(self, width: int, heads: int, size: int, of_torch: bool) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(width, 2 * heads * size), nn.Linear(width, 2 * heads * size)
        self.out, self.head_dim, self.of_torch = nn.Linear(2 * heads * size, width), size, of_torch

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], x.shape[1], -1, self.head_dim)
        q = self.q(x).view(shape).transpose(1, 2)
        k, v = (part.view(shape).transpose(1, 2) for part in self.kv(x).chunk(2, -1))
        if self.of_torch:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            y = attend(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
        return self.out(y.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


def _grouped_options(dice: Dice, x: Value) -> Options | None:
    return {"heads": dice.one_of([1, 2]), "size": dice.one_of([2, 4]), "of_torch": dice.chance(0.5)}


def grouped_queries(x: Value, heads: int, size: int, of_torch: bool) -> nn.Module:
    return GroupedQueries(x.channels, heads, size, of_torch)


OPERATIONS["self_attention"] = Operation(("sequence",), _self_options, self_attention)
OPERATIONS["grouped_queries"] = Operation(("sequence",), _grouped_options, grouped_queries)
