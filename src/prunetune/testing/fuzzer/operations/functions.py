"""Operations of random programs without weights: element by element, joining and splitting, order of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.fuzzer.operations.layers import FIRST, LAST
from prunetune.testing.fuzzer.programs import Dice, Options, StepKind, Value, register_operation

ALL = (*FIRST, *LAST)


class Function(nn.Module):
    """A function with its options."""

    def __init__(self, run: Callable[..., Any], options: Options) -> None:
        super().__init__()
        self.run, self.options = run, options

    def forward(self, *tensors: Tensor) -> Any:
        return self.run(*tensors, **self.options)


R = TypeVar("R", bound=Callable[..., Any])


def function(
    takes: tuple[str, ...],
    draw: Callable[..., Options | None],
    *,
    gives: str | Callable[..., str] | None = None,
    partner: Callable[[Value, Value], bool] | None = None,
    partners: tuple[int, ...] = (1,),
) -> Callable[[R], R]:
    """Register a function of tensors and options, `run(*tensors, **options)`, as the operation of its name.

    Parameters
    ----------
    takes, draw, gives
        As those of `layer`.
    partner, partners
        Whether a tensor can stand beside the first, and how many further ones there may be.
    """

    def register(run: R) -> R:
        def build(*values: Value, **options: Any) -> nn.Module:
            return Function(run, options)

        register_operation(run.__name__, StepKind(takes, draw, build, gives, partner, partners, has_weights=False))
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
