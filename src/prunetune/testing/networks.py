"""Small networks of several kinds, as trained, with the inputs and targets that go with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

CLASSES: Final = 4
SAMPLES: Final = 8


@dataclass(frozen=True)
class Case:
    """A network and its data; the same at every call."""

    build: Callable[[], nn.Module]
    sample: Callable[[], Tensor]
    """A batch of inputs."""

    def model(self) -> nn.Module:
        """The network in training mode; its batch norms have scales and statistics as after some training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.build()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, std=0.1)
                    for statistics in (module.running_mean, module.running_var):
                        assert statistics is not None
                        statistics.uniform_(0.5, 1.5)
        return model.train()

    def inputs(self) -> Tensor:
        """What the network is traced with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return self.sample()

    def data(self) -> list[tuple[Tensor, Tensor]]:
        """Two batches of inputs and labels."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            return [(self.sample(), torch.arange(SAMPLES) % CLASSES) for _ in range(2)]


class ResidualNetwork(nn.Module):
    """Convolution, batch norm and ReLU, a residual block, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, classes)."""
        x = self.relu(self.norm(self.conv(images)))
        x = self.relu(x + self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def grouped() -> nn.Module:
    """Grouped and depthwise convolutions, and a map that is flattened."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(inplace=True),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


class Transformer(nn.Module):
    """Tokens, which are whole numbers; attention with two heads, a perceptron, layer norms. No batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) to (B, classes)."""
        x = self.embedding(tokens)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.perceptron(self.norm2(x))
        logits: Tensor = self.head(x.mean(1))
        return logits


def perceptron() -> nn.Module:
    """Linear layers alone."""
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def _images() -> Tensor:
    return torch.randn(SAMPLES, 3, 8, 8)


CASES: Final[Mapping[str, Case]] = {
    "residual": Case(ResidualNetwork, _images),
    "grouped": Case(grouped, _images),
    "transformer": Case(Transformer, lambda: torch.randint(11, (SAMPLES, 5))),
    "perceptron": Case(perceptron, lambda: torch.randn(SAMPLES, 6)),
}
"""Those that a scorer is tried on."""
