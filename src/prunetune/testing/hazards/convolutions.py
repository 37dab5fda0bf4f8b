"""Convolutions of every kind, and weights that are computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from prunetune.testing.hazards.common import Body, network


@network()
class DepthwiseMultiplier(Body):
    def __init__(self) -> None:
        super().__init__(6, 12)
        self.a = nn.Conv2d(6, 12, 3, padding=1, groups=6)

    def body(self, x: Tensor) -> Tensor:
        return self.a(x)


@network()
class GroupedAfterCat(Body):
    def __init__(self) -> None:
        super().__init__(6, 8)
        self.a, self.b = nn.Conv2d(6, 6, 1), nn.Conv2d(12, 8, 3, groups=4)

    def body(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([x, self.a(x)], 1))


@network(lambda: torch.randn(2, 3, 16, dtype=torch.float64))
class Convolution1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 8, 3, groups=2)
        self.norm, self.c = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(self.b(self.a(x).relu())).mean(2))


@network(lambda: torch.randn(2, 3, 5, 6, 7, dtype=torch.float64))
class Convolution3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv3d(3, 8, 3), nn.Conv3d(8, 8, 3, groups=4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.adaptive_avg_pool3d(self.b(self.a(x).relu()), 1).flatten(1))


@network()
class Transposed(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.b = nn.ConvTranspose2d(6, 8, 2, stride=2)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class TransposedGroups(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)
        self.b = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class WeightNorm(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = parametrizations.weight_norm(nn.Conv2d(8, 6, 3))
        self.b = nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class SpectralNorm(Body):
    """All filters are divided by one number, in which what is removed has no part."""

    multiplied = ("a.parametrizations.weight",)

    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.b = parametrizations.spectral_norm(nn.Conv2d(8, 6, 3)), nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class BareParameter(Body):
    matrices = ("weight",)

    def __init__(self) -> None:
        super().__init__(8)
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.b = nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1) @ self.weight
        return self.b(y.permute(0, 3, 1, 2).relu())


@network()
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ParameterDict(
            {"a": torch.randn(8, 3, 3, 3), "b": torch.randn(8, 8, 3, 3), "c": torch.randn(3, 8), "s": torch.ones(8)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.w["a"], padding=1)) * self.w["s"][None, :, None, None]
        x = F.relu(F.conv2d(x, self.w["b"], padding=1)) + x
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), self.w["c"])
