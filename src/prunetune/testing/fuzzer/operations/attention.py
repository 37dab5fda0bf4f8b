"""Operations of random programs: products of activations, and attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.fuzzer.operations.functions import alike, function, nothing
from prunetune.testing.fuzzer.programs import OPERATIONS, Dice, Options, StepKind, Value

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


class GroupedQueryLayer(nn.Module):
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
    return GroupedQueryLayer(x.channels, heads, size, of_torch)


OPERATIONS["self_attention"] = StepKind(("sequence",), _self_options, self_attention)
OPERATIONS["grouped_queries"] = StepKind(("sequence",), _grouped_options, grouped_queries)
