"""What the networks are made of, and where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {}


def image(channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tokens() -> Tensor:
    return torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def vectors() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(inputs: Callable[[], Any] = image, name: str | None = None) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def register(cls: type[nn.Module]) -> type[nn.Module]:
        NETWORKS[name or cls.__name__] = (cls, inputs)
        return cls

    return register


class Head(nn.Module):
    """Mean over places, then a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


def stem(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class Body(nn.Module):
    """A stem, what is tested (`body`), and a head."""

    def __init__(self, width: int, out: int | None = None) -> None:
        super().__init__()
        self.stem = stem(width)
        self.head = Head(out or width)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError
