"""Two pretrained networks, what they are tuned for, the hyperparameters, and the ways to judge these cheaply."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import torch
from torch import nn

from benchmarks.gpt.cases import GPT
from benchmarks.gpt.cases import text as documentation
from prunetune import Float, SearchSpace
from prunetune.data import datasets
from prunetune.transfer.kinds import OptimizerKind
from prunetune.zoo.resnet import BasicBlock

Examples: TypeAlias = tuple[torch.Tensor, torch.Tensor]
Weights: TypeAlias = Literal["redraw", "sliced", "recovered", "distilled"]


class ResNet14(nn.Module):
    """Twice as wide as CIFAR's, with a head for five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.blocks = nn.Sequential(
            BasicBlock(32, 32, 1), BasicBlock(32, 32, 1), BasicBlock(32, 64, 2), BasicBlock(64, 64, 1),
            BasicBlock(64, 128, 2), BasicBlock(128, 128, 1),
        )  # fmt: skip
        self.head = nn.Linear(128, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) to logits (B, 5)."""
        out: torch.Tensor = self.head(self.blocks(self.bn1(self.conv1(images)).relu()).mean((2, 3)))
        return out


@dataclass(frozen=True)
class Data:
    """Inputs and targets to learn from, and to judge by."""

    train: Examples
    test: Examples


@lru_cache(maxsize=2)
def pictures(first: int) -> Data:
    """Fashion-MNIST's classes from ``first`` to ``first + 4`` at 14 × 14 pixels, numbered from 0."""
    data = datasets["fashion-mnist"].load(14, None, 0)

    def part(images: torch.Tensor, labels: torch.Tensor) -> Examples:
        chosen = (labels >= first) & (labels < first + 5)
        return data.normalize(images[chosen]), labels[chosen] - first

    return Data(
        part(data.train_images, data.train_labels),
        part(torch.cat([data.val_images, data.test_images]), torch.cat([data.val_labels, data.test_labels])),
    )


CONTEXT: Final = 64


@lru_cache(maxsize=2)
def writing(which: Literal["prose", "programs"]) -> Data:
    """Pieces of text and the characters that come next: Python's documentation, or the source of its modules."""
    if which == "prose":
        train, test = documentation().train, documentation().test
    else:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        whole = "".join(path.read_text(encoding="utf-8") for path in files)
        numbers = torch.tensor([0 if c == "\n" else ord(c) - 31 if 32 <= ord(c) < 127 else 96 for c in whole])
        train, test = numbers[: len(numbers) * 9 // 10], numbers[len(numbers) * 9 // 10 :]
    return Data(_pieces(train), _pieces(test))


def _pieces(row: torch.Tensor) -> Examples:
    pieces = row[: len(row) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    return pieces[:, :-1], pieces[:, 1:]


@dataclass(frozen=True)
class Task:
    """A network, what it has learnt and what it is to learn, with how many examples and epochs."""

    name: str
    build: Callable[[], nn.Module]
    head: str
    """The module that is drawn anew; empty where none is."""
    before: Callable[[], Data]
    after: Callable[[], Data]
    optimizer: OptimizerKind
    rate: float
    """At which the network is pretrained."""
    rates: tuple[float, float]
    pretraining: int
    """Examples that the network sees beforehand."""
    examples: int
    epochs: int = 6
    batch: int = 32
    judged: int = 2048
    """Examples of the test part."""

    @property
    def space(self) -> SearchSpace:
        """What is searched; ``forgetting`` is 1 - momentum, or 1 - beta 1."""
        return SearchSpace(
            {
                "learning_rate": Float(*self.rates, log=True),
                "weight_decay": Float(1e-5, 1e-1, log=True),
                "forgetting": Float(0.02, 0.3, log=True),
                "smoothing": Float(0.0, 0.2),
            }
        )


TASKS: Final = (
    Task(
        "ResNet-14, other classes", ResNet14, "head", partial(pictures, 0), partial(pictures, 5), "sgd",
        0.1, (3e-3, 1.0), 24_000, 512,
    ),
    Task(
        "transformer, other text", partial(GPT, 128, 4, CONTEXT - 1), "", partial(writing, "prose"),
        partial(writing, "programs"), "adam", 3e-3, (1e-4, 2e-2), 12_000, 128, batch=8, judged=256,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to judge a configuration: what is left of the network, with which weights, by which rule; how long."""

    name: str
    width: float = 1.0
    depth: float = 1.0
    weights: Weights = "sliced"
    rule: str = "identity"
    epochs: float = 1.0
    data: float = 1.0
    frozen: float = 0.0
    """The share of the network's parameter tensors, from the input on, that stay as they are."""
    seed: int = 0


TRUTH: Final = Way("the full network", seed=1)
WAYS: Final = (
    TRUTH,
    Way("the full network, another seed"),
    Way("1/3 of the epochs", epochs=1 / 3),
    Way("1/6 of the epochs", epochs=1 / 6),
    Way("1/6 of the data", data=1 / 6),
    Way("lower half frozen", frozen=1 / 2),
    Way("1/4 of the width, redrawn", 1 / 4, weights="redraw", rule="norm-aware"),
    Way("1/4, redrawn, rates as they are", 1 / 4, weights="redraw"),
    Way("1/4, sliced", 1 / 4),
    Way("1/4, recovered", 1 / 4, weights="recovered"),
    Way("1/4, recovered, rates by the rule", 1 / 4, weights="recovered", rule="norm-aware"),
    Way("1/4, recovered, 1/3 of the epochs", 1 / 4, weights="recovered", epochs=1 / 3),
    Way("1/4, distilled", 1 / 4, weights="distilled"),
    Way("half of the blocks", depth=1 / 2),
    Way("half of the blocks, recovered", depth=1 / 2, weights="recovered"),
)


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    configurations: int
    seeds: int
    """Of pretraining."""
    share: float = 1.0
    """Of the examples to be pretrained on."""


SCALES: Final = {"smoke": Scale(3, 1, 0.02), "cpu": Scale(16, 5)}
