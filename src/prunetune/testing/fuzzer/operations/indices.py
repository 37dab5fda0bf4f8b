"""Operations of random programs that address tokens by indices: gathers, scatters, masks, experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunetune.testing.fuzzer.operations.functions import alike, function, nothing
from prunetune.testing.fuzzer.operations.layers import LAST, layer
from prunetune.testing.fuzzer.programs import Dice, Options, Value


def _some(dice: Dice, x: Value) -> Options | None:
    """A few of its tokens."""
    tokens = x.shape[1]
    return {"index": [dice.one_of(range(tokens)) for _ in range(dice.one_of([2, 3, tokens]))]}


def _every(dice: Dice, x: Value, *others: Value) -> Options | None:
    return {"index": [dice.one_of(range(x.shape[1])) for _ in range(x.shape[1])]}


def _for_samples(x: Tensor, index: list[int]) -> Tensor:
    """The tokens, and in the second sample one further."""
    numbers = torch.tensor(index, device=x.device)
    return (numbers + torch.arange(x.shape[0], device=x.device)[:, None]) % x.shape[1]


@function(("sequence",), lambda dice, x: {**(_some(dice, x) or {}), "way": dice.one_of(["expand", "repeat", "take"])})
def gather_tokens(x: Tensor, index: list[int], way: str) -> Tensor:
    """As masked autoencoders do."""
    chosen = _for_samples(x, index).unsqueeze(-1)
    if way == "take":
        return torch.take_along_dim(x, chosen, 1)
    return torch.gather(x, 1, chosen.expand(-1, -1, x.shape[-1]) if way == "expand" else chosen.repeat(1, 1, x.size(2)))


@function(("sequence",), lambda dice, x: {"index": dice.one_of([0, 1])})
def gather_channel(x: Tensor, index: int) -> Tensor:
    """One channel of each token: it has a number."""
    return x + x.gather(-1, torch.full_like(x[..., :1], index, dtype=torch.int64)) if x.shape[-1] > 1 else x


@function(
    ("sequence",),
    lambda dice, x, y: {**(_every(dice, x) or {}), "kind": dice.one_of(["add", "amax", "mean", "set"])},
    partner=alike,
)
def scatter_tokens(x: Tensor, y: Tensor, index: list[int], kind: str) -> Tensor:
    """As graph networks do with their messages."""
    where = _for_samples(x, sorted(set(index)) if kind == "set" else index).unsqueeze(-1)
    y = y[:, : where.shape[1]]
    where = where.expand(-1, -1, x.shape[-1])
    if kind == "add":
        return torch.zeros_like(x).scatter_add_(1, where, y) + x
    return x.scatter(1, where, y) if kind == "set" else x.scatter_reduce(1, where, y, kind)


@function(
    ("sequence",),
    lambda dice, x, y: {**(_every(dice, x) or {}), "kind": dice.one_of(["add", "copy", "amax", "mean", "select"])},
    partner=alike,
)
def index_tokens(x: Tensor, y: Tensor, index: list[int], kind: str) -> Tensor:
    numbers = torch.tensor(sorted(set(index)) if kind == "copy" else index, device=x.device)
    y = y[:, : len(numbers)]
    if kind == "select":
        return x.index_select(1, numbers) + y
    if kind in ("amax", "mean"):
        return x.index_reduce(1, numbers, y, kind, include_self=kind == "mean")
    return x.index_add(1, numbers, y, alpha=0.5) if kind == "add" else (x * 2).index_copy_(1, numbers, y)


@function(("sequence",), _some)
def masked_tokens(x: Tensor, index: list[int]) -> Tensor:
    """A mask over samples and tokens."""
    mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    mask[:, index] = True
    return x[mask].unflatten(0, (x.shape[0], -1))


@function(("sequence",), lambda dice, x, y: _some(dice, x), partner=alike)
def written_tokens(x: Tensor, y: Tensor, index: list[int]) -> Tensor:
    mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    mask[:, index] = True
    x = x * 1.5
    x[mask] = y[mask]
    x[:, index[0]] = y[:, 0]
    return x


@function(
    ("sequence",),
    lambda dice, x, y: {
        "kind": dice.one_of(["row", "copy", "fill", "zero", "mask", "halves"]),
        "index": dice.one_of(range(x.shape[1])),
    },
    partner=alike,
)
def written_views(x: Tensor, y: Tensor, kind: str, index: int) -> Tensor:
    """Only views are written to; the tensor that they look at is returned, and was perhaps read before."""
    x = x * 1.5
    before, row = x.exp(), x[:, index]
    if kind == "row":
        row.mul_(y[:, 0]).add_(x[:, 0])
    elif kind == "copy":
        x.transpose(0, 1)[index].copy_(y[:, 0])
    elif kind == "mask":
        row.masked_fill_(torch.arange(x.shape[0], device=x.device)[:, None] == 0, 0.7)
    elif kind == "halves":
        half = x.shape[-1] // 2
        x[..., :half].add_(x[..., half : 2 * half])
    else:
        row.fill_(0.3) if kind == "fill" else row.zero_()
    return x + before


@function(("image",), nothing)
def looked_up_places(x: Tensor) -> Tensor:
    """Indices behind the channels, and two apart from each other."""
    rows = torch.arange(x.shape[2] - 1, -1, -1, device=x.device)
    samples = torch.arange(x.shape[0], device=x.device)[:, None]
    return x[:, :, rows] + x[samples, :, rows[None]].transpose(1, 2)


class Experts(nn.Module):
    """A matrix for each sample, looked up among three."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, width, out)), nn.Parameter(torch.randn(3, out))

    def forward(self, x: Tensor) -> Tensor:
        chosen = torch.arange(x.shape[0], device=x.device) % 3
        wide = x if x.ndim == 3 else x.unsqueeze(1)
        out = torch.bmm(wide, self.weight[chosen]) + self.bias[chosen, None]
        return out if x.ndim == 3 else out.squeeze(1)


@layer(("vector", "sequence"), lambda dice, x: {"out": dice.width(x.layout)})
def experts(x: Value, out: int) -> nn.Module:
    return Experts(x.channels, out)


class Routed(nn.Module):
    """A loop over experts that each see some rows and add what they make of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(2, 6, width)), nn.Parameter(torch.randn(2, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = torch.zeros_like(rows)
        for expert in range(2):
            chosen = torch.arange(expert, rows.shape[0], 2, device=x.device)
            gate, up = nn.functional.linear(rows[chosen], self.up[expert]).chunk(2, -1)
            out.index_add_(0, chosen, nn.functional.linear(gate.sigmoid() * up, self.down[expert]))
        return out.reshape(x.shape)


@layer(LAST, lambda dice, x: {} if x.channels > 1 else None)
def routed(x: Value) -> nn.Module:
    return Routed(x.channels)
