"""Small networks that a device is calibrated on: the layers that networks are made of, narrow and wide, few and many.

They are blocks and not single operations, because an operation that finds its input in the cache, or memory that it
need not ask the system for, is faster than in any network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

Micro: TypeAlias = tuple[nn.Module, tuple[int, ...]]
"""A network, and the shape of its input."""


class Around(nn.Module):
    """Layers that something is done with."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, self.inner)

    def joined(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        raise NotImplementedError


class SkipConnection(Around):
    """Its input, and added to it what the layers make of it."""

    def joined(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        return x + inner(x)


class Joined(Around):
    """Its input, and behind it what the layers make of it."""

    def joined(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([x, inner(x)], dim=1)


class Shuffled(Around):
    """Half of the channels pass; then they take turns with the others."""

    def joined(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        first, second = x.chunk(2, dim=1)
        y = torch.cat([first, inner(second)], dim=1)
        n, c, h, w = y.shape
        return y.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Gated(Around):
    """Channels weighted by what is in all of them (squeeze and excitation)."""

    def joined(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        return x * inner(x)


class ChannelsLast(Around):
    """Layers that work on (N, H, W, C); what comes in and goes out is (N, C, H, W)."""

    def joined(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        return inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Every place looks at all places (N, L, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return attended


def conv(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    layers = [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, act(inplace=True))


def gate(c: int) -> Gated:
    inner = max(1, c // 4)
    return Gated(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, inner, 1), nn.ReLU(), nn.Conv2d(inner, c, 1), nn.Sigmoid())


def inverted(c: int, e: int, k: int = 3, act: type[nn.Module] = nn.ReLU6, *, gated: bool = False) -> SkipConnection:
    """MobileNet's block: wide in the middle, every channel filtered by itself."""
    middle = [conv(c, e, 1, act=act), conv(e, e, k, groups=e, act=act), *([gate(e)] if gated else [])]
    return SkipConnection(*middle, nn.Conv2d(e, c, 1, bias=False), nn.BatchNorm2d(c))


def mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def transformer(width: int, heads: int) -> nn.Sequential:
    return nn.Sequential(SkipConnection(nn.LayerNorm(width), Attention(width, heads)), SkipConnection(mlp(width)))


def dense(c: int) -> nn.Sequential:
    """DenseNet's layer and transition."""
    layer = Joined(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 48, 1, bias=False), conv(48, 12))
    return nn.Sequential(layer, nn.Conv2d(c + 12, c // 2, 1), nn.AvgPool2d(2))


def shuffled(c: int) -> Shuffled:
    half = c // 2
    filtered = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.BatchNorm2d(half))
    return Shuffled(conv(half, half, 1), filtered, conv(half, half, 1))


CONVOLUTIONS = (  # in, out, size, batch, stride
    *((4, 4, 32, 64, 1), (8, 8, 32, 64, 1), (10, 10, 32, 32, 1), (16, 16, 32, 32, 1), (20, 20, 16, 64, 1)),
    *((32, 32, 32, 16, 1), (45, 45, 16, 32, 1), (64, 64, 16, 16, 1), (64, 64, 32, 4, 1), (96, 96, 8, 32, 1)),
    *((128, 128, 8, 32, 1), (100, 100, 14, 8, 1), (192, 192, 8, 16, 1), (256, 256, 4, 32, 1), (256, 256, 14, 2, 1)),
    *((512, 512, 2, 32, 1), (512, 512, 7, 2, 1), (384, 384, 4, 16, 1), (3, 16, 32, 64, 1), (3, 64, 32, 16, 1)),
    *((16, 32, 32, 32, 2), (64, 128, 16, 16, 2), (128, 32, 16, 32, 1), (24, 96, 16, 32, 1), (3, 32, 112, 4, 2)),
    *((200, 12, 16, 32, 1), (48, 12, 32, 32, 1)),
)
POINTWISE = (  # narrow, wide, size, batch
    *((8, 48, 32, 32), (16, 96, 32, 16), (24, 144, 32, 8), (64, 64, 16, 32), (24, 96, 16, 64), (32, 192, 14, 16)),
    *((48, 300, 16, 16), (128, 128, 8, 64), (160, 960, 4, 64), (512, 512, 7, 4), (232, 232, 8, 32), (58, 58, 16, 64)),
    *((11, 40, 16, 64), (256, 1024, 4, 32)),
)
DEPTHWISE = (  # channels, kernel, stride, size, batch
    *((32, 3, 1, 32, 32), (144, 3, 2, 32, 16), (96, 3, 1, 112, 2), (192, 3, 1, 16, 32), (50, 3, 1, 16, 64)),
    *((960, 3, 1, 4, 64), (116, 3, 1, 8, 64), (7, 3, 1, 32, 64), (240, 5, 1, 14, 8), (96, 5, 2, 28, 8)),
    *((672, 5, 1, 7, 16), (40, 7, 1, 28, 8)),
)
GROUPED = ((48, 6, 56, 4), (104, 13, 28, 8), (208, 26, 14, 16), (440, 55, 7, 16), (128, 32, 14, 8), (256, 4, 14, 4))
LINEAR = (  # in, out, rows
    *((512, 512, 128), (1024, 256, 128), (1280, 1000, 8), (768, 3072, 100), (192, 768, 800), (96, 384, 3000)),
    *((48, 192, 6000), (24, 96, 6000)),
)
TRANSFORMERS = (  # width, heads, places, batch
    *((24, 12, 197, 4), (100, 10, 150, 4), (36, 6, 64, 8), (192, 3, 197, 4), (96, 12, 197, 4), (384, 6, 100, 4)),
    *((768, 12, 50, 2), (64, 4, 64, 32)),
)


def micro_networks() -> Iterator[Micro]:
    """All of them; none takes longer than some tenths of a second on a slow core."""
    for i, o, size, batch, stride in CONVOLUTIONS:
        second = [conv(o, o)] if i == o else []
        yield nn.Sequential(conv(i, o, 3, stride), *second), (batch, i, size, size)
    for c, wide, size, batch in POINTWISE:
        yield nn.Sequential(conv(c, wide, 1), conv(wide, c, 1)), (batch, c, size, size)
    for c, k, stride, size, batch in DEPTHWISE:
        yield nn.Sequential(conv(c, c, k, stride, c), conv(c, c, k, 1, c)), (batch, c, size, size)
    for c, groups, size, batch in GROUPED:
        yield conv(c, c, 3, groups=groups), (batch, c, size, size)
    for i, o, rows in LINEAR:
        yield nn.Sequential(nn.Linear(i, o), nn.ReLU(), nn.Linear(o, i)), (rows, i)
    for width, heads, places, batch in TRANSFORMERS:
        yield transformer(width, heads), (batch, places, width)
    yield from _blocks()
    yield from _small()
    yield from _memory()


def _blocks() -> Iterator[Micro]:
    for c, e, size, batch in ((16, 96, 32, 16), (24, 144, 16, 16), (64, 384, 8, 32), (96, 300, 4, 64), (6, 36, 32, 32)):
        yield inverted(c, e), (batch, c, size, size)
    for c, e, k, size, batch in ((40, 240, 5, 28, 4), (80, 480, 3, 14, 8), (192, 1152, 5, 7, 8)):
        yield inverted(c, e, k, nn.SiLU, gated=True), (batch, c, size, size)
    yield SkipConnection(conv(208, 208, 1), conv(208, 208, groups=26), gate(208), conv(208, 208, 1)), (8, 208, 14, 14)
    for c, size, batch in ((60, 32, 16), (150, 16, 32), (200, 8, 64), (40, 8, 64)):
        yield dense(c), (batch, c, size, size)
    for c, size, batch in ((116, 16, 32), (232, 8, 64), (464, 4, 64), (30, 16, 64)):
        yield shuffled(c), (batch, c, size, size)
    for c, size, batch in ((16, 32, 32), (8, 16, 64), (32, 16, 32), (64, 8, 64), (64, 56, 1), (128, 28, 1)):
        yield nn.Sequential(*[SkipConnection(conv(c, c), conv(c, c)) for _ in range(2)]), (batch, c, size, size)
    for c, size, batch in ((96, 28, 2), (192, 28, 1), (384, 14, 2), (24, 28, 8), (48, 56, 1)):
        patches = nn.Conv2d(c, c, 7, padding=3, groups=c)
        yield SkipConnection(patches, ChannelsLast(mlp(c))), (batch, c, size, size)
    yield nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), (2, 3, 224, 224)
    yield nn.Conv2d(3, 96, 4, 4), (4, 3, 224, 224)
    yield nn.Conv2d(3, 384, 16, 16), (2, 3, 224, 224)
    yield conv(64, 128, 1, 2), (8, 64, 28, 28)
    yield conv(24, 48, 1, 2), (64, 24, 16, 16)


def _small() -> Iterator[Micro]:
    """Networks whose time is that of calls."""
    yield nn.Sequential(*[conv(8, 8) for _ in range(8)]), (4, 8, 4, 4)
    yield nn.Sequential(*[conv(8, 8, 1) for _ in range(16)]), (2, 8, 4, 4)
    yield nn.Sequential(*[conv(16, 16, groups=16) for _ in range(8)]), (2, 16, 4, 4)
    yield nn.Sequential(*[conv(16, 16, groups=4) for _ in range(8)]), (2, 16, 4, 4)
    yield nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(8)]), (8, 16)
    yield nn.Sequential(*[transformer(32, 2) for _ in range(2)]), (2, 8, 32)
    yield nn.Sequential(*[shuffled(8) for _ in range(4)]), (2, 8, 4, 4)
    yield nn.Sequential(*[inverted(8, 16, act=nn.SiLU, gated=True) for _ in range(4)]), (2, 8, 4, 4)


def _memory() -> Iterator[Micro]:
    """Networks whose time is that of reading and writing, in tensors of up to 36 MiB (float32)."""
    for c, size, batch in ((64, 32, 32), (32, 32, 128), (16, 56, 8)):
        yield nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(True), nn.BatchNorm2d(c)), (batch, c, size, size)
        yield nn.Sequential(nn.BatchNorm2d(c), nn.Hardtanh(), nn.ReLU(), nn.Hardtanh()), (batch, c, size, size)
    yield nn.Sequential(nn.BatchNorm2d(32), nn.SiLU(), nn.BatchNorm2d(32), nn.Sigmoid()), (16, 32, 32, 32)
    yield nn.Sequential(nn.LayerNorm(384), nn.GELU(), nn.Softmax(-1), nn.GELU()), (32, 64, 384)
    pools = (nn.MaxPool2d(2), nn.BatchNorm2d(64), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1))
    yield nn.Sequential(nn.BatchNorm2d(64), *pools), (32, 64, 32, 32)
    yield nn.Sequential(nn.BatchNorm2d(64), nn.MaxPool2d(3, 2, 1)), (4, 64, 112, 112)
    for i, o in ((32, 66), (72, 24)):
        yield conv(i, o, 1), (128, i, 32, 32)
    for i, o in ((8, 65), (65, 8)):
        yield conv(i, o), (128, i, 32, 32)
    yield nn.Conv2d(72, 72, 3, 1, 1, groups=72), (128, 72, 32, 32)
    yield nn.Sequential(nn.BatchNorm2d(66), nn.ReLU6(), SkipConnection(nn.ReLU())), (128, 66, 32, 32)
    yield Joined(nn.Conv2d(66, 12, 1)), (128, 66, 32, 32)
    yield nn.Sequential(nn.Conv2d(8, 66, 1), nn.SiLU(), nn.MaxPool2d(2)), (128, 8, 32, 32)
    yield nn.Sequential(nn.Linear(64, 100), nn.GELU(), nn.Linear(100, 64)), (90000, 64)
