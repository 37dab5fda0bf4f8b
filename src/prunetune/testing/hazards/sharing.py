"""Weights that are used more than once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, Head, network, stem


@network()
class ModuleCalledTwice(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(self.a(x).relu())


@network()
class ModuleOnTwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.shared, self.head = stem(6), stem(6), nn.Conv2d(6, 8, 1), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.a(x)) * self.shared(self.b(x)))


@network(lambda: torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(0)))
class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.a, self.b, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 11, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedding(x)
        return self.out(y + self.b(self.a(y).relu()))


@network(lambda: torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(0)))
class EmbeddingWithPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.a = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a((self.tokens(x) + self.positions(torch.arange(x.shape[1]))).mean(1))
