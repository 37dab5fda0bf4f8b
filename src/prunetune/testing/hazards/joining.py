"""Branches that are joined."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, Head, network, stem


@network()
class CatWithItself(Body):
    def __init__(self) -> None:
        super().__init__(6, 12)

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


@network()
class CatJoinedByResidual(Body):
    def __init__(self) -> None:
        super().__init__(6, 10)
        self.a, self.b = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 10, 1)

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.a(x)], 1) + self.b(x)


@network()
class TwoGroupCountsOnOneResidual(Body):
    def __init__(self) -> None:
        super().__init__(12)
        self.a, self.b = nn.Conv2d(12, 12, 3, padding=1, groups=3), nn.Conv2d(12, 12, 3, padding=1, groups=2)

    def body(self, x: Tensor) -> Tensor:
        return x + self.a(x) + self.b(x)


@network()
class Stack(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a = nn.Conv2d(6, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return torch.stack([x, self.a(x)], dim=1).sum(1)


@network()
class SplitAttention(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.branches = nn.Conv2d(6, 12, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 12)

    def body(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        u = self.branches(x).view(b, 2, c, h, w)
        a = self.fc2(self.fc1(u.sum(1).mean((2, 3))).relu()).view(b, 2, c).softmax(1)
        return (u * a[..., None, None]).sum(1)


@network()
class Maxout(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a = nn.Conv2d(6, 12, 1)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return y.view(y.shape[0], 2, y.shape[1] // 2, *y.shape[2:]).amax(1)


@network()
class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = stem(8), Head(8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.stem(x)
        return {"class": self.a(y), "mask": self.b(y)}
