"""Python's control flow, and what cannot be followed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunetune.testing.hazards.common import network, vectors


@network(vectors)
class DictAndLoops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({f"layer{i}": nn.Linear(5 if i == 0 else 8, 8) for i in range(3)})
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for i, (_, part) in enumerate(self.parts.items()):
            x = part(x).relu() + (x if i else 0)
        return self.head(x)


@network(vectors)
class ControlFlow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 2:
            raise ValueError("x must be a matrix")
        x = self.a(x)
        for _ in range(min(2, len(x))):
            x = self.b(x.relu()) if x.shape[0] > 1 else x
        return self.head(x if scale is None else x * scale)


@network(vectors)
class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        if x.abs().max().item() > 1e9:
            raise ValueError("overflow")
        return self.head(x)


@network(vectors)
class WritesInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], 16)
        y[:, :8] = self.a(x)
        y[:, 8:] = self.b(x)
        return self.head(y.relu_())


@network(vectors)
class NoRule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.renorm(self.a(x), 2, 0, 1e6))
