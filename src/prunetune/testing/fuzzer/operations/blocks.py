"""Operations of random programs that are several layers at once."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.fuzzer.operations.layers import FIRST, layer, of_layout
from prunetune.testing.fuzzer.programs import Value


class Readout(nn.Module):
    """A last layer for tensors of any layouts: each has a linear layer, over its channels or over all of it."""

    def __init__(self, values: tuple[Value, ...], kind: str, out: int) -> None:
        super().__init__()
        widths = [math.prod(v.shape[1:]) if kind == "flatten" else v.channels for v in values]
        self.kind, self.linear = kind, nn.ModuleList(nn.Linear(n, out) for n in widths)
        self.places = [tuple(d for d in range(1, len(v.shape)) if d != v.channel) for v in values]

    def forward(self, *xs: Tensor) -> Tensor:
        return sum(layer(self.pool(x, dims)) for x, dims, layer in zip(xs, self.places, self.linear, strict=True))

    def pool(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        if self.kind == "flatten":
            return x.flatten(1)
        return getattr(x, self.kind)(dims) if dims else x


@layer((), lambda *_: None, gives="vector")
def readout(*values: Value, kind: str, out: int) -> nn.Module:
    """Never drawn: programs end in it."""
    return Readout(values, kind, out)


@layer(FIRST, lambda dice, x: {"hidden": dice.one_of([2, 3, 4]), "kind": dice.one_of(["linear", "conv"])})
def squeeze_excitation(x: Value, hidden: int, kind: str) -> nn.Module:
    return SqueezeExcitation(x, hidden, kind)


class SqueezeExcitation(nn.Module):
    """A gate a channel, computed from the means of all channels."""

    def __init__(self, x: Value, hidden: int, kind: str) -> None:
        super().__init__()
        make = nn.Linear if kind == "linear" else lambda a, b: of_layout("Conv", x)(a, b, 1)
        self.kind, self.a, self.b = kind, make(x.channels, hidden), make(hidden, x.channels)

    def forward(self, x: Tensor) -> Tensor:
        places = tuple(range(2, x.ndim))
        if self.kind == "conv":
            return x * self.b(F.silu(self.a(x.mean(places, keepdim=True)))).sigmoid()
        gate = self.b(F.silu(self.a(x.mean(places).view(x.shape[0], x.shape[1])))).sigmoid()
        return x * gate.view(*x.shape[:2], *[1] * len(places)).expand_as(x)
