"""Operations of random programs: numbers computed from a width, and what code does by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from fuzz import Dice, Options, Value
from fuzz_functions import ALL, function
from torch import Tensor

PARTS: dict[str, Callable[[int], Any]] = {
    "half": lambda c: math.floor(c * 0.5),
    "half, up": lambda c: math.ceil(c / 2),
    "shifted": lambda c: c >> 1,
    "a third": lambda c: -(-c // 3),
    "three quarters": lambda c: 3 * c // 4,
    "all but one": lambda c: c - 1,
    "rounded": lambda c: round(c / 4),
    "remainder": lambda c: c % 3,
    "divmod": lambda c: divmod(c, 4)[1],
    "at most": lambda c: min(c, 3),
    "at least": lambda c: max(c // 4, 1),
    "cut off": lambda c: int(c * 0.5),
    "root": lambda c: round(c**0.5),
    "double half": lambda c: (c << 1) >> 2,
    "decided": lambda c: 1 if c < 4 else 2,
}


def _part(dice: Dice, x: Value) -> Options | None:
    kind = dice.one_of(list(PARTS))
    return {"kind": kind, "dim": x.channel} if 0 < PARTS[kind](x.channels) < x.channels else None


def _at(dim: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * dim + (part,)


@function(ALL, _part)
def two_parts(x: Tensor, kind: str, dim: int) -> Tensor:
    n = PARTS[kind](x.shape[dim])
    return torch.cat([x[_at(dim, slice(None, n))], 3.0 * x[_at(dim, slice(n, None))]], dim)


@function(ALL, _part)
def two_parts_from_the_end(x: Tensor, kind: str, dim: int) -> Tensor:
    n = -PARTS[kind](x.size(dim))
    return torch.cat([x[_at(dim, slice(None, n))], 3.0 * x[_at(dim, slice(n, None))]], dim)


@function(ALL, _part)
def split_by_part(x: Tensor, kind: str, dim: int) -> tuple[Tensor, ...]:
    c = x.shape[dim]
    n = PARTS[kind](c)
    return x.split([n, c - n], dim)


@function(ALL, lambda dice, x: {**o, "sign": dice.one_of([1, -1])} if (o := _part(dice, x)) else None)
def roll_by_part(x: Tensor, kind: str, dim: int, sign: int) -> Tensor:
    return x.roll(sign * PARTS[kind](x.shape[dim]), dim)


@function(ALL, lambda dice, x: {**o, "sign": dice.one_of([1, -1])} if (o := _part(dice, x)) else None)
def pick_by_part(x: Tensor, kind: str, dim: int, sign: int) -> Tensor:
    return x + x.select(dim, sign * PARTS[kind](x.shape[dim])).unsqueeze(dim)


@function(ALL, _part)
def stride_by_part(x: Tensor, kind: str, dim: int) -> Tensor:
    return x[_at(dim, slice(None, None, PARTS[kind](x.shape[dim])))]


SCALES: dict[str, Callable[[int], Any]] = {
    "1 / c": lambda c: 1 / c,
    "1 / math.sqrt(c)": lambda c: 1 / math.sqrt(c),
    "c ** -0.5": lambda c: c**-0.5,
    "c": lambda c: c,
    "c * 0.25 + 1": lambda c: c * 0.25 + 1,
}


@function(ALL, lambda dice, x: {"kind": dice.one_of(list(SCALES)), "dim": x.channel})
def scale_by_width(x: Tensor, kind: str, dim: int) -> Tensor:
    return x * SCALES[kind](x.shape[dim])


@function(ALL, lambda dice, x: {"dim": x.channel})
def mean_by_hand(x: Tensor, dim: int) -> Tensor:
    return x - (x / x.shape[dim]).sum(dim, keepdim=True)


DECISIONS: dict[str, Callable[[int], bool]] = {
    "c > 3": lambda c: c > 3,
    "2 <= c < 5": lambda c: 2 <= c < 5,
    "c == 4": lambda c: c == 4,
    "c % 4 == 0": lambda c: c % 4 == 0,
    "c in (2, 6)": lambda c: c in (2, 6),
    "c / 3 > 1.5": lambda c: c / 3 > 1.5,
    "c * 0.5 != 3": lambda c: c * 0.5 != 3,
    "c": lambda c: bool(c),
}


@function(ALL, lambda dice, x: {"kind": dice.one_of(list(DECISIONS)), "dim": x.channel})
def decided_by_width(x: Tensor, kind: str, dim: int) -> Tensor:
    return x.relu() if DECISIONS[kind](x.shape[dim]) else x.sigmoid() + 1.0


@function(ALL, lambda dice, x, y: {}, partner=lambda x, y: x.layout == y.layout and x.places == y.places)
def add_where_it_fits(x: Tensor, y: Tensor) -> Tensor:
    return x + y if x.shape == y.shape else x * 2.0
