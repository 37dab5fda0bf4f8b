"""Attention, and what stands for it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.hazards.common import network, tokens


class AttentionNetwork(nn.Module):
    multiplied = ("qkv",)

    def __init__(self, heads: int = 2, dim: int = 8) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.embed, self.qkv = nn.Linear(5, dim), nn.Linear(dim, 3 * dim)
        self.proj, self.head = nn.Linear(dim, dim), nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attend(x)).mean(1))

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@network(tokens)
class AttentionWrittenOut(AttentionNetwork):
    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        a = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(b, n, c))


@network(tokens)
class AttentionByHeadSize(AttentionNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 4

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(b, n, self.heads * self.head_dim))


@network(tokens)
class AttentionByFunction(AttentionNetwork):
    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(y.transpose(1, 2).flatten(2))


@network(tokens)
class AttentionModule(AttentionNetwork):
    multiplied = ("mha",)

    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)

    def attend(self, x: Tensor) -> Tensor:
        return self.mha(x, x, x, need_weights=False)[0]


@network(tokens)
class GroupedQueries(nn.Module):
    multiplied = ("q", "kv")

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q, self.kv = nn.Linear(5, 8), nn.Linear(8, 16), nn.Linear(8, 16)
        self.proj, self.head = nn.Linear(16, 8), nn.Linear(8, 3)
        self.heads, self.groups, self.size = 4, 2, 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.heads, self.size).transpose(1, 2)
        k, v = self.kv(x).view(b, n, 2, self.groups, self.size).permute(2, 0, 3, 1, 4)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        a = (q @ k.mT / math.sqrt(4)).softmax(-1) @ v
        return self.head((x + self.proj(a.transpose(1, 2).reshape(b, n, self.heads * self.size))).mean(1))


@network(tokens)
class Einsum(nn.Module):
    matrices = ("w",)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w, self.head = nn.Linear(5, 8), nn.Parameter(torch.randn(8, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.einsum("bnc,cd->bnd", self.a(x).relu(), self.w).relu().mean(1))


@network(tokens)
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.t1, self.t2 = nn.Linear(5, 8), nn.Linear(6, 10), nn.Linear(10, 6)
        self.c1, self.c2, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.t2(self.t1(x.transpose(1, 2)).relu()).transpose(1, 2)
        return self.head((x + self.c2(self.c1(x).relu())).mean(1))


@network(tokens)
class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.lstm, self.head = nn.Linear(5, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.a(x))[0][:, -1])


@network(tokens)
class WholeTransformer(nn.Module):
    """`nn.Transformer` compares the width of what it gets with its `d_model`."""

    multiplied = tuple(f"t.{each}" for each in ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn"))
    multiplied += ("t.decoder.layers.0.multihead_attn",)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.t = nn.Transformer(8, 2, 1, 1, 12, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(self.t(x, x.flip(1)).mean(1))
