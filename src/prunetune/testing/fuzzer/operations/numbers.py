"""Operations of random programs: numbers computed from a width, and what code does by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunetune.testing.fuzzer.operations.functions import ALL, function
from prunetune.testing.fuzzer.programs import Dice, Options, Value

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


def _at(dim: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * dim + (part,)


def _in_two(x: Tensor, n: int, dim: int) -> Tensor:
    return torch.cat([x[_at(dim, slice(None, n))], 3.0 * x[_at(dim, slice(n, None))]], dim)


USES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "x[:n]": _in_two,
    "x[:-n]": lambda x, n, dim: _in_two(x, -n, dim),
    "split": lambda x, n, dim: torch.cat([3.0 * p for p in x.split([n, x.shape[dim] - n], dim)][::-1], dim),
    "roll": lambda x, n, dim: x.roll(n, dim),
    "roll back": lambda x, n, dim: x.roll(-n, dim),
    "x[n]": lambda x, n, dim: x + x.select(dim, n).unsqueeze(dim),
    "x[-n]": lambda x, n, dim: x + x.select(dim, -n).unsqueeze(dim),
    "x[::n]": lambda x, n, dim: x[_at(dim, slice(None, None, n))],
}


def _by_part(dice: Dice, x: Value) -> Options | None:
    part = dice.one_of(list(PARTS))
    if not 0 < PARTS[part](x.channels) < x.channels:
        return None
    return {"part": part, "use": dice.one_of(list(USES)), "dim": x.channel}


@function(ALL, _by_part)
def by_part(x: Tensor, part: str, use: str, dim: int) -> Tensor:
    return USES[use](x, PARTS[part](x.shape[dim]), dim)


SCALES: dict[str, Callable[[int], Any]] = {
    "1 / c": lambda c: 1 / c,
    "1 / math.sqrt(c)": lambda c: 1 / math.sqrt(c),
    "c ** -0.5": lambda c: c**-0.5,
    "c": lambda c: c,
    "c * 0.25 + 1": lambda c: c * 0.25 + 1,
}


@function(ALL, lambda dice, x: {"kind": dice.one_of([*SCALES, "mean"]), "dim": x.channel})
def scale_by_width(x: Tensor, kind: str, dim: int) -> Tensor:
    if kind == "mean":
        return x - (x / x.shape[dim]).sum(dim, keepdim=True)
    return x * SCALES[kind](x.shape[dim])


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
