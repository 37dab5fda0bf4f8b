"""Channels in another order, and channels that become places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, network, stem


@network()
class ShuffleBlock(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(4, 4, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        p, q = x.chunk(2, 1)
        y = torch.cat([p, self.a(q)], 1)
        b, c, h, w = y.shape
        return y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


@network()
class ShuffleWithoutSplit(Body):
    def __init__(self) -> None:
        super().__init__(12)
        self.a, self.b = nn.Conv2d(12, 12, 1, groups=3), nn.Conv2d(12, 12, 1, groups=3)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        b, c, h, w = y.shape
        y = y.view(b, 3, c // 3, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return self.b(y) + x


@network()
class ShuffleModule(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.shuffle = nn.Conv2d(8, 8, 1), nn.ChannelShuffle(2)

    def body(self, x: Tensor) -> Tensor:
        return self.shuffle(self.a(x)) + x


@network()
class PixelShuffle(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.up, self.b = nn.Conv2d(8, 24, 1), nn.PixelShuffle(2), nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.up(self.a(x)))


@network()
class PixelUnshuffle(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.down, self.b = nn.PixelUnshuffle(2), nn.Conv2d(24, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.down(x))


@network()
class SpaceToDepth(Body):
    def __init__(self) -> None:
        super().__init__(5, 5)
        self.b = nn.Conv2d(20, 5, 1)

    def body(self, x: Tensor) -> Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.b(torch.cat(parts, 1))


@network()
class PatchMerging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.head = stem(6), nn.Linear(24, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.head(self.reduce(x).relu().mean((1, 2)))
