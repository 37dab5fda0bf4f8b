"""Numbers that the code computes from a width, and what it does with them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunetune.testing.hazards.common import NETWORKS, Body, Head, image, network, stem


class ByNumber(Body):
    """Does something with its channels by a number computed from how many there are."""

    def __init__(self, number: Callable[[int], Any], use: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__(8)
        self.mix, self.number, self.use = nn.Conv2d(8, 8, 1), number, use

    def body(self, x: Tensor) -> Tensor:
        y = self.mix(x).relu()
        return x + self.use(y, self.number(y.shape[1]))


def in_two(x: Tensor, n: int) -> Tensor:
    return torch.cat([x[:, :n], 3.0 * x[:, n:]], 1)


def from_the_end(x: Tensor, n: int) -> Tensor:
    return torch.cat([x[:, :-n], 3.0 * x[:, -n:]], 1)


FOLLOWED: dict[str, Callable[[int], Any]] = {
    "math.floor(c * 0.5)": lambda c: math.floor(c * 0.5),
    "math.ceil(c / 4)": lambda c: math.ceil(c / 4),
    "math.trunc(c * 0.5 + 1)": lambda c: math.trunc(c * 0.5 + 1),
    "round(c / 2)": lambda c: round(c / 2),
    "c >> 1": lambda c: c >> 1,
    "(c << 1) >> 2": lambda c: (c << 1) >> 2,
    "-(-c // 2)": lambda c: -(-c // 2),
    "divmod(c, 2)[0] + 1": lambda c: divmod(c, 2)[0] + 1,
    "c - c // 4": lambda c: c - c // 4,
    "3 * c // 4": lambda c: 3 * c // 4,
    "abs(-c) // 2": lambda c: abs(-c) // 2,
    "~(-c) // 2": lambda c: ~(-c) // 2,
    "c % 3": lambda c: c % 3,
    "c // 3": lambda c: c // 3,
    "min(c // 2, 9)": lambda c: min(c // 2, 9),
    "min(c, 3)": lambda c: min(c, 3),
    "max(1, c // 2)": lambda c: max(1, c // 2),
    "+c // 2": lambda c: +c // 2,
    "c // 2 if c > 3 else 1": lambda c: c // 2 if c > 3 else 1,
    "c // 2 if c * 0.5 >= 1.7 else 1": lambda c: c // 2 if c * 0.5 >= 1.7 else 1,
    "1 if c < 2 else c // 4": lambda c: 1 if c < 2 else c // 4,
    "c // 2 if c != 2 else 1": lambda c: c // 2 if c != 2 else 1,
    "c // 2 if c in (1, 2) or c else 1": lambda c: c // 2 if c in (1, 2) or c else 1,
    "{4: 1}.get(c, 3)": lambda c: {4: 1}.get(c, 3),
    "c // 2 if not c % 2 else 1": lambda c: c // 2 if not c % 2 else 1,
}
KEPT: dict[str, Callable[[int], Any]] = {
    "int(c * 0.5)": lambda c: int(c * 0.5),
    "int(c) // 2": lambda c: int(c) // 2,
    "round(c ** 0.5)": lambda c: round(c**0.5),
    "int(c / 3 * 2)": lambda c: int(c / 3 * 2),
    "math.floor(c * 0.3)": lambda c: math.floor(c * 0.3),
    "math.ceil(20 / c)": lambda c: math.ceil(20 / c),
    "20 // c": lambda c: 20 // c,
    "c ** 2 // 16": lambda c: c**2 // 16,
    "c & 6": lambda c: c & 6,
    "10 % c": lambda c: 10 % c,
    "c.bit_length()": lambda c: c.bit_length(),
    "int(c * 0.5 % 3)": lambda c: int(c * 0.5 % 3),
    "{8: 4}[c]": lambda c: {8: 4}[c],
    "4 if c == 8 else 1": lambda c: 4 if c == 8 else 1,
    "4 if (c * 0.5).is_integer() and c / 3 > 2.6 else 1": lambda c: 4 if (c * 0.5).is_integer() and c / 3 > 2.6 else 1,
}
"""Of these nothing can be cut."""
USES: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "x[:, :-n]": from_the_end,
    "x.roll(n)": lambda x, n: x.roll(n, 1),
    "x.roll(-n)": lambda x, n: x.roll((-n,), (1,)),
    "x[:, n]": lambda x, n: x + x[:, n : n + 1] + x[:, n, None],
    "x[:, -n]": lambda x, n: x + x[:, -n].unsqueeze(1),
    "x.select(1, n)": lambda x, n: x + x.select(1, n).unsqueeze(1),
    "x.narrow(1, n, n)": lambda x, n: torch.cat([x.narrow(1, 0, n), -x.narrow(1, n, n)], 1),
    "x.tensor_split((n,))": lambda x, n: torch.cat([-p if i else p for i, p in enumerate(x.tensor_split((n,), 1))], 1),
    "x.split(n)": lambda x, n: torch.cat([p * (i + 1) for i, p in enumerate(x.split(n, 1))], 1),
    "x[:, :2 * n]": lambda x, n: x[:, : 2 * n] * 2,
}
KEEPING: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "x[:, ::n]": lambda x, n: x * x[:, ::n].sum(1, keepdim=True),
    "x.chunk(n)": lambda x, n: torch.cat([p * (i + 1) for i, p in enumerate(x.chunk(n, 1))], 1),
    "x.tensor_split(n)": lambda x, n: torch.cat([p * (i + 1) for i, p in enumerate(x.tensor_split(n, 1))], 1),
    "arange(n)": lambda x, n: x * torch.arange(n).sum(),
}


def half(c: Any) -> Any:
    return c // 2


for _name, _number in {**FOLLOWED, **KEPT}.items():
    NETWORKS[f"n = {_name}"] = functools.partial(ByNumber, _number, in_two), image
for _name, _use in {**USES, **KEEPING}.items():
    NETWORKS[f"{_name}, n = c // 2"] = functools.partial(ByNumber, half, _use), image
NOTHING_CUT = {
    **{f"n = {name}": "numbers.py" for name in KEPT},
    "n = 20 // c": "fixed in the model's code",
    "x[:, ::n], n = c // 2": "__getitem__",
    "x.chunk(n), n = c // 2": "chunk",
    "x.tensor_split(n), n = c // 2": "tensor_split",
    "arange(n), n = c // 2": "fixed in the model's code",
}


class Twice(Body):
    """Attributes, before or behind a number, in the equation that comes first or last."""

    def __init__(self, sizes: Callable[[int], tuple[int, int]]) -> None:
        super().__init__(12)
        self.c, self.sizes = 4, sizes
        self.p, self.q = (nn.Conv2d(n, 12, 1) for n in sizes(4))

    def body(self, x: Tensor) -> Tensor:
        p, q = x.split(self.sizes(self.c), 1)
        return self.p(p) + self.q(q)


for _name, _sizes in {
    "(c, 2 * c)": lambda c: (c, 2 * c),
    "(c, c * 2)": lambda c: (c, c * 2),
    "(2 * c, c)": lambda c: (2 * c, c),
    "(c << 1, c)": lambda c: (c << 1, c),
}.items():
    NETWORKS[f"self.c in {_name}"] = functools.partial(Twice, _sizes), image


@network()
class HalfOfAnAttribute(Body):
    """Nothing but twice the attribute is ever a size."""

    def __init__(self) -> None:
        super().__init__(8)
        self.c = 2

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, : 2 * self.c], -x[:, 2 * self.c :]], 1)


class Checks(Body):
    """Looks at its sizes before it works, as libraries do."""

    def __init__(self, check: Callable[[Checks, Tensor], None]) -> None:
        super().__init__(8)
        self.width, self.heads, self.check, self.mix = 8, 2, check, nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        self.check(self, x)
        return x + self.mix(x).relu()


def _raises(self: Checks, x: Tensor) -> None:
    if x.shape[1] != self.width:
        raise ValueError(f"expected {self.width} channels, got {x.shape[1]}")


def _asserts(self: Checks, x: Tensor) -> None:
    assert x.size(1) % self.heads == 0
    assert x.shape[1] // self.heads * self.heads == self.width


def _compares_tuples(self: Checks, x: Tensor) -> None:
    assert x.shape[1:3] == (self.width, 8)
    assert x.shape == self.mix(x).shape


def _asks_the_layer(self: Checks, x: Tensor) -> None:
    assert x.shape[1] == self.mix.in_channels == self.mix.out_channels


def _asks_two_layers(self: Checks, x: Tensor) -> None:
    if self.mix.in_channels != self.mix.out_channels or self.stem[0].out_channels != self.stem[1].num_features:
        raise ValueError("widths differ")


for _check in (_raises, _asserts, _compares_tuples, _asks_the_layer, _asks_two_layers):
    NETWORKS[f"Checks: {_check.__name__}"] = functools.partial(Checks, _check), image


@network()
class AddsWhereItFits(Body):
    """As some residual blocks do."""

    def __init__(self) -> None:
        super().__init__(4, 8)
        self.a, self.b = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y = y + x if y.shape == x.shape else y
        z = self.b(y)
        return z + y if z.shape == y.shape else z


@network()
class LayerByWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.narrow, self.wide, self.head = stem(8), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1), Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((self.narrow if x.shape[1] < 7 else self.wide)(x))


class Counted(Body):
    """Asks how many elements there are, in the ways there are to ask."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__(8)
        self.flatten, self.linear = flatten, nn.Linear(8 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.flatten(self.stem(x)))


for _name, _flatten in {
    "numel": lambda x: x.reshape(x.shape[0], x.numel() // x.shape[0]),
    "nelement": lambda x: x.reshape(-1, x[0].nelement()),
    "shape.numel": lambda x: x.reshape(-1, x.shape[1:].numel()),
    "math.prod": lambda x: x.reshape(-1, math.prod(x.shape[1:])),
}.items():
    NETWORKS[f"flattened by {_name}"] = functools.partial(Counted, _flatten), image


class ByLength(nn.Module):
    """`len` gives a plain number, of rows of a weight here, and strides are computed out of sight."""

    def __init__(self, number: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.stem, self.mix, self.head, self.number = stem(8), nn.Conv2d(8, 6, 1), Head(6), number

    def forward(self, x: Tensor) -> Tensor:
        return self.head(in_two(self.mix(self.stem(x)), self.number(self.mix.weight) // 2))


for _name, _length in {"len(weight)": len, "weight.stride(0) - 2": lambda weight: weight.stride(0) - 2}.items():
    NETWORKS[f"n = {_name}"] = functools.partial(ByLength, _length), image
