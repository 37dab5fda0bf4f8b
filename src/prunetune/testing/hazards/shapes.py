"""Changes of shape, and sizes in the code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, Head, network, stem


@network()
class FlattenNchw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = stem(5), nn.Linear(5 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).flatten(1))


@network()
class FlattenNhwc(FlattenNchw):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).permute(0, 2, 3, 1).reshape(x.size(0), -1))


@network()
class FlattenBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = stem(5), nn.BatchNorm1d(5 * 64), nn.Linear(5 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.flatten(self.stem(x), 1)))


@network()
class FlattenCat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = stem(4), stem(6), nn.Linear(4 * 64 + 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.a(x).flatten(1), self.b(x).mean((2, 3))], 1))


@network()
class Unflatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = stem(6), nn.Linear(6, 32), nn.Conv2d(2, 5, 1), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.stem(x).mean((2, 3)))
        return self.head(self.b(y.unflatten(1, (2, 4, 4))))


@network()
class HardCodedView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = stem(8), nn.Linear(512, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.stem(x).view(-1, 512)).relu())


@network()
class ZeroPaddedShortcut(Body):
    def __init__(self) -> None:
        super().__init__(4, 8)
        self.a, self.b = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) + F.pad(x, (0, 0, 0, 0, 2, 2))
