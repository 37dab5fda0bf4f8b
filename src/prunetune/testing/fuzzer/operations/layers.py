"""Operations of random programs that have weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from prunetune.testing.fuzzer.programs import OPERATIONS, Dice, Options, StepKind, Value, register_operation

FIRST = ("image", "line", "volume")
"""Layouts with channels before places."""
LAST = ("last", "sequence", "vector")
SPATIAL = {"line": 1, "image": 2, "volume": 3}


M = TypeVar("M", bound=Callable[..., nn.Module])


def layer(
    takes: tuple[str, ...],
    draw: Callable[..., Options | None],
    *,
    gives: str | Callable[..., str] | None = None,
    shares: bool = False,
) -> Callable[[M], M]:
    """Register a function that makes a module, `make(x, **options)`, as the operation of its name.

    Parameters
    ----------
    takes
        The layouts of tensors that the module runs on (keys of `prunetune.testing.fuzzer.programs.CHANNEL`).
    draw
        `draw(dice, x)` chooses the options at random; None says that the module cannot run on `x`.
    gives
        The layout of what comes out, if it is another one.
    shares
        The function also gets `modules`, those of the network so far.
    """

    def register(make: M) -> M:
        register_operation(make.__name__, StepKind(takes, draw, make, gives, shares=shares))
        return make

    return register


def of_layout(kind: str, x: Value) -> Any:
    """`nn.Conv2d` for `Conv` and an image."""
    return getattr(nn, f"{kind}{SPATIAL[x.layout]}d")


# -- convolutions and linear layers ------------------------------------------------------------------------------------


def _conv_options(dice: Dice, x: Value) -> Options | None:
    out = dice.width(x.layout)
    kernel = dice.one_of([1, 1, 3, 3, 2] if min(x.places) > 1 else [1, 3])
    stride = dice.one_of([1, 1, 1, 2])
    return {"out": out, "kernel": kernel, "stride": stride, "groups": dice.divisor(x.channels, out)}


@layer(FIRST, _conv_options)
def conv(x: Value, out: int, kernel: int, stride: int, groups: int) -> nn.Module:
    padding = kernel // 2 if kernel == 3 else 0
    return of_layout("Conv", x)(x.channels, out, kernel, stride, padding, groups=groups, bias=stride == 1)


@layer(FIRST, lambda dice, x: {"multiplier": dice.one_of([1, 1, 2, 3]), "kernel": dice.one_of([1, 3])})
def depthwise(x: Value, multiplier: int, kernel: int) -> nn.Module:
    return of_layout("Conv", x)(x.channels, x.channels * multiplier, kernel, padding=kernel // 2, groups=x.channels)


def _transposed_options(dice: Dice, x: Value) -> Options | None:
    out = dice.width(x.layout)
    return {"out": out, "groups": dice.divisor(x.channels, out), "stride": dice.one_of([1, 2])}


@layer(FIRST, _transposed_options)
def conv_transposed(x: Value, out: int, groups: int, stride: int) -> nn.Module:
    return of_layout("ConvTranspose", x)(x.channels, out, stride, stride, groups=groups)


@layer(FIRST, lambda dice, x: {"multiplier": dice.one_of([1, 1, 2])})
def depthwise_transposed(x: Value, multiplier: int) -> nn.Module:
    channels = x.channels
    return of_layout("ConvTranspose", x)(channels, channels * multiplier, 3, padding=1, groups=channels)


@layer(LAST, lambda dice, x: {"out": dice.width(x.layout), "bias": dice.chance(0.7)})
def linear(x: Value, out: int, bias: bool) -> nn.Module:
    return nn.Linear(x.channels, out, bias)


class OverPlaces(nn.Module):
    """A linear layer along another dimension than the channels, as in an MLP-mixer."""

    def __init__(self, size: int, out: int, dim: int) -> None:
        super().__init__()
        self.linear, self.dim = nn.Linear(size, out), dim

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.transpose(self.dim, -1)).transpose(self.dim, -1)


@layer(("image", "line", "last", "sequence"), lambda dice, x: {"out": dice.one_of([2, 3, 4, 6])})
def linear_over_places(x: Value, out: int) -> nn.Module:
    dim = 2 if x.layout == "line" else 1 if x.channel > 1 else 3
    return OverPlaces(x.shape[dim], out, dim)


@layer(
    ("image", "vector", "sequence"),
    lambda dice, x: {"out": dice.width(x.layout), "kind": dice.one_of(["weight_norm", "spectral_norm"])},
)
def normed_weight(x: Value, out: int, kind: str) -> nn.Module:
    inner = nn.Conv2d(x.channels, out, 1) if x.layout == "image" else nn.Linear(x.channels, out)
    return getattr(parametrizations, kind)(inner)


# -- bare parameters ---------------------------------------------------------------------------------------------------


class Bare(nn.Module):
    """A parameter that no layer of torch holds."""

    def __init__(self, kind: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.weight = kind, nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return BARE[self.kind](x, self.weight)


BARE: dict[str, Any] = {
    "linear": F.linear,
    "transposed": lambda x, w: F.linear(x, w.t()),
    "matmul": lambda x, w: x @ w,
    "left": lambda x, w: w @ x,
    "einsum": lambda x, w: torch.einsum("...c,cd->...d", x, w),
    "einsum nc": lambda x, w: torch.einsum("nc,dc->nd", x, w),
    "einsum ntc": lambda x, w: torch.einsum("ntc,cd->ntd", x, w),
    "einsum nchw": lambda x, w: torch.einsum("nchw,dc->ndhw", x, w),
    "conv2d": lambda x, w: F.conv2d(x, w, padding=1),
}


def _bare_options(dice: Dice, x: Value) -> Options | None:
    kinds = {
        "image": ["conv2d", "einsum nchw"],
        "line": ["left"],
        "vector": ["linear", "transposed", "matmul", "einsum nc"],
        "sequence": ["linear", "transposed", "matmul", "einsum ntc", "einsum"],
        "last": ["linear", "transposed", "matmul", "einsum"],
    }
    return {"kind": dice.one_of(kinds[x.layout]), "out": dice.width(x.layout)}


@layer(("image", "line", *LAST), _bare_options)
def bare(x: Value, kind: str, out: int) -> nn.Module:
    swapped = kind in ("transposed", "matmul", "einsum", "einsum ntc")
    shape = (x.channels, out) if swapped else (out, x.channels, *((3, 3) if kind == "conv2d" else ()))
    return Bare(kind, shape)


class ScaleOrShift(nn.Module):
    """A parameter that is added to or multiplied with what comes in: a layer scale, a shift, a position embedding."""

    def __init__(self, kind: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.weight = kind, nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if self.kind == "scale" else x + self.weight


def _joined_options(dice: Dice, x: Value) -> Options | None:
    return {"kind": dice.one_of(["scale", "shift"]), "everywhere": dice.chance(0.3), "batch": dice.chance(0.5)}


@layer((*FIRST, *LAST), _joined_options)
def joined(x: Value, kind: str, everywhere: bool, batch: bool) -> nn.Module:
    shape = [n if everywhere or d == x.channel else 1 for d, n in enumerate(x.shape)][1:]
    return ScaleOrShift(kind, (1, *shape) if batch else tuple(shape))


# -- normalisations ----------------------------------------------------------------------------------------------------


@layer((*FIRST, "vector"), lambda dice, x: {"affine": dice.chance(0.7), "statistics": dice.chance(0.8)})
def batch_norm(x: Value, affine: bool, statistics: bool) -> nn.Module:
    kind = {"vector": nn.BatchNorm1d, "line": nn.BatchNorm1d, "image": nn.BatchNorm2d, "volume": nn.BatchNorm3d}
    return kind[x.layout](x.channels, affine=affine, track_running_stats=statistics)


@layer(
    FIRST,
    lambda dice, x: {"affine": dice.chance(0.5), "statistics": dice.chance(0.3)} if math.prod(x.places) > 1 else None,
)
def instance_norm(x: Value, affine: bool, statistics: bool) -> nn.Module:
    return of_layout("InstanceNorm", x)(x.channels, affine=affine, track_running_stats=statistics)


@layer(LAST, lambda dice, x: {"kind": dice.one_of(["LayerNorm", "RMSNorm"]), "affine": dice.chance(0.8)})
def norm_last(x: Value, kind: str, affine: bool) -> nn.Module:
    return getattr(nn, kind)(x.channels, elementwise_affine=affine)


@layer(("image", "line", "sequence"), lambda dice, x: {})
def norm_everything(x: Value) -> nn.Module:
    return nn.LayerNorm(x.shape[1:])


@layer((*FIRST, "vector"), lambda dice, x: {"groups": dice.one_of([1, x.channels, dice.divisor(x.channels)])})
def group_norm(x: Value, groups: int) -> nn.Module:
    return nn.GroupNorm(groups, x.channels)


@layer((*FIRST, "vector"), lambda dice, x: {"many": dice.chance(0.7)})
def prelu(x: Value, many: bool) -> nn.Module:
    return nn.PReLU(x.channels if many else 1)


# -- sharing -----------------------------------------------------------------------------------------------------------


def _again_options(dice: Dice, x: Value) -> Options | None:
    shapes = {v.name: (v.shape, v.layout) for v in dice.pool}
    fits = [
        s.results[0]
        for s in dice.steps
        if OPERATIONS[s.operation].has_weights and [shapes[i] for i in s.inputs] == [(x.shape, x.layout)]
    ]
    return {"of": dice.one_of(fits)} if fits else None


@layer((*FIRST, *LAST), _again_options, gives=lambda known, x, of: known[of].layout, shares=True)
def again(x: Value, of: str, modules: Mapping[str, nn.Module]) -> nn.Module:
    """A module of the network, called once more."""
    return modules[of]


class Tied(nn.Module):
    """A linear layer that uses another one's weight."""

    def __init__(self, weight: nn.Parameter, *, transposed: bool) -> None:
        super().__init__()
        self.weight, self.transposed = weight, transposed

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t() if self.transposed else self.weight)


def _tied_options(dice: Dice, x: Value) -> Options | None:
    channels = {v.name: v.channels for v in dice.pool}
    fits = [
        {"of": s.results[0], "transposed": transposed}
        for s in dice.steps
        for transposed in (False, True)
        if s.operation == "linear" and channels[(s.results if transposed else s.inputs)[0]] == x.channels
    ]
    return dice.one_of(fits) if fits else None


@layer(LAST, _tied_options, shares=True)
def tied(x: Value, of: str, transposed: bool, modules: Mapping[str, nn.Module]) -> nn.Module:
    return Tied(cast(nn.Parameter, modules[of].weight), transposed=transposed)


# -- embedding, recurrence ---------------------------------------------------------------------------------------------


@layer(("index",), lambda dice, x: {"width": dice.width("sequence")}, gives="sequence")
def embedding(x: Value, width: int) -> nn.Module:
    return nn.Embedding(5, width)


class Recurrent(nn.Module):
    """All steps of an LSTM, GRU or plain network, or its last state."""

    def __init__(self, kind: str, width: int, hidden: int, layers: int, bidirectional: bool, final: bool) -> None:
        super().__init__()
        self.inner = getattr(nn, kind)(width, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.final = final

    def forward(self, x: Tensor) -> Tensor:
        out, state = self.inner(x)
        return (state[0] if isinstance(state, tuple) else state)[-1] if self.final else out


def _recurrent_options(dice: Dice, x: Value) -> Options | None:
    options = {"kind": dice.one_of(["LSTM", "GRU", "RNN"]), "hidden": dice.width("sequence")}
    return {**options, "layers": dice.one_of([1, 1, 2]), "both_ways": dice.chance(0.3), "final": dice.chance(0.3)}


@layer(("sequence",), _recurrent_options, gives=lambda known, x, final, **_: "vector" if final else "sequence")
def recurrent(x: Value, kind: str, hidden: int, layers: int, both_ways: bool, final: bool) -> nn.Module:
    return Recurrent(kind, x.channels, hidden, layers, both_ways, final)
