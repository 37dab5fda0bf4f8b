"""Operations of random programs whose weights are computed from weights, or that compute in the frequency domain."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.fuzzer.operations.functions import function
from prunetune.testing.fuzzer.operations.layers import LAST, layer
from prunetune.testing.fuzzer.programs import Dice, Options, Value


class Computed(nn.Module):
    """Parameters, and the weight that they become when it is used."""

    def __init__(self, kind: str, out: int, width: int, kernel: tuple[int, ...]) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.randn(out, width, *kernel))
        self.left, self.right = nn.Parameter(torch.randn(out, 3)), nn.Parameter(torch.randn(3, width))
        self.scale = nn.Parameter(torch.randn(out))

    def forward(self, x: Tensor) -> Tensor:
        weight = WEIGHTS[self.kind](self)
        return F.conv2d(x, weight, padding=1) if self.weight.ndim > 2 else F.linear(x, weight)


def _standardised(m: Any) -> Tensor:
    flat = m.weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return (centred / (centred.square().mean(1, keepdim=True) + 1e-2).sqrt()).view_as(m.weight)


def _of_ones(m: Any) -> Tensor:
    """BitNet's: signs and one scale, behind a straight-through estimate."""
    signs = (m.weight - m.weight.mean()).sign() * m.weight.abs().mean()
    return m.weight + (signs - m.weight).detach()


WEIGHTS: dict[str, Any] = {
    "standardised": _standardised,
    "signs": _of_ones,
    "low rank": lambda m: m.left @ m.right,
    "merged": lambda m: m.weight + 0.5 * torch.einsum("or,ri->oi", m.left, m.right),
    "scaled": lambda m: m.weight * m.scale.exp().view(-1, *[1] * (m.weight.ndim - 1)),
    "normed": lambda m: m.weight / m.weight.norm(dim=1, keepdim=True),
    "soft": lambda m: m.weight.softmax(1),
    "padded": lambda m: F.pad(m.weight[..., 1:, 1:], (1, 0, 1, 0)),
    "centred": lambda m: m.weight - m.weight.sum((2, 3), keepdim=True) / 9,
    "mirrored": lambda m: torch.stack([m.weight, m.weight.flip(-1)]).mean(0),
}


def _computed_options(dice: Dice, x: Value) -> Options | None:
    general = ["standardised", "signs", "scaled", "normed", "soft", "mirrored"]
    kinds = [*general, "padded", "centred"] if x.layout == "image" else [*general[:-1], "low rank", "merged"]
    return {"kind": dice.one_of(kinds), "out": dice.width(x.layout)}


@layer(("image", *LAST), _computed_options)
def computed(x: Value, kind: str, out: int) -> nn.Module:
    return Computed(kind, out, x.channels, (3, 3) if x.layout == "image" else ())


class FrequencyFilter(nn.Module):
    """A product in the frequency domain, channel by channel."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, size[0], size[1] // 2 + 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.weight)
        return torch.fft.irfft2(spectrum, s=x.shape[-2:], norm="ortho")


@layer(("image",), lambda dice, x: {} if min(x.places) > 1 else None)
def global_filter(x: Value) -> nn.Module:
    return FrequencyFilter(x.channels, (x.places[0], x.places[1]))


def _mixed_options(dice: Dice, x: Value) -> Options | None:
    dims = dice.one_of([(1,), (1,), (2,), (1, 2)])
    return {"dims": dims} if all(x.shape[d] > 1 for d in dims) else None


@function(("sequence", "line"), _mixed_options)
def fourier_mixed(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """As FNet mixes tokens."""
    mixed = torch.fft.fftn(x, dim=dims) if len(dims) > 1 else torch.fft.fft(x, dim=dims[0])
    return x + mixed.real - torch.view_as_real(mixed)[..., 1]


class Modulated(nn.Module):
    """Filters that are scaled for each sample, and normed if so: a convolution with as many groups as samples."""

    def __init__(self, channels: int, out: int, norm: bool) -> None:
        super().__init__()
        self.weight, self.style, self.norm = (
            nn.Parameter(torch.randn(1, out, channels, 3, 3)),
            nn.Linear(channels, channels),
            norm,
        )

    def forward(self, x: Tensor) -> Tensor:
        samples, channels, height, width = x.shape
        weight = self.weight * self.style(x.mean((2, 3)))[:, None, :, None, None]
        if self.norm:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-2)
        weight = weight.reshape(samples * weight.shape[1], channels, 3, 3)
        out = F.conv2d(x.reshape(1, -1, height, width), weight, padding=1, groups=samples)
        return out.reshape(samples, -1, *out.shape[2:])


@layer(("image",), lambda dice, x: {"out": dice.width("image"), "norm": dice.chance(0.5)})
def modulated(x: Value, out: int, norm: bool) -> nn.Module:
    return Modulated(x.channels, out, norm)


class Splines(nn.Module):
    """A layer of a Kolmogorov-Arnold network: functions of each channel, and a weight for each of them."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.out = out
        self.grid: Tensor
        self.register_buffer("grid", torch.linspace(-2, 2, 6).expand(width, -1).contiguous())
        self.spline, self.scaler = nn.Parameter(torch.randn(out, width, 5)), nn.Parameter(torch.randn(out, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(-1)
        bases = ((x >= self.grid[:, :-1]) & (x < self.grid[:, 1:])).to(x.dtype) * (x - self.grid[:, :-1])
        weight = self.spline * self.scaler.unsqueeze(-1)
        return F.linear(bases.flatten(1), weight.view(self.out, -1))


@layer(("vector",), lambda dice, x: {"out": dice.width("vector")})
def splines(x: Value, out: int) -> nn.Module:
    return Splines(x.channels, out)
