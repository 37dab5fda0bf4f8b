"""A small language model, the text that it learns, its hyperparameters, and the proxies that are to rank them."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import nn

from benchmarks.common.transformer import Block
from prunetune import Float, SearchSpace

CHARACTERS: Final = 97
"""Printable ASCII, the end of a line, and one for all others."""


class GPT(nn.Module):
    """A language model of characters: learned positions, pre-norm blocks, a readout of its own."""

    def __init__(self, width: int, depth: int, context: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.places = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.Sequential(*(Block(width, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, CHARACTERS)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, context) to logits (B, context, characters)."""
        logits: torch.Tensor = self.readout(self.norm(self.blocks(self.embed(tokens) + self.places)))
        return logits


@dataclass(frozen=True)
class Text:
    """Characters as numbers: one long row each to learn from, to choose by, and to say how good what was chosen is."""

    train: torch.Tensor
    val: torch.Tensor
    test: torch.Tensor


@lru_cache(maxsize=1)
def text() -> Text:
    """The documentation strings of Python's own modules; each tenth is for validation, the one after it for tests."""
    found = [each for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) for each in _strings(path)]
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for number, each in enumerate(found):
        parts[{0: 1, 1: 2}.get(number % 10, 0)].append(each)
    return Text(*(_encoded("\n\n".join(part)) for part in parts))


def _strings(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (said := ast.get_docstring(node)):
            yield said


def _encoded(string: str) -> torch.Tensor:
    return torch.tensor([0 if c == "\n" else ord(c) - 31 if 32 <= ord(c) < 127 else 96 for c in string])


@dataclass(frozen=True)
class Scale:
    """How large everything is: an epoch has ``steps`` of ``batch`` pieces of ``context`` characters."""

    width: int
    depth: int
    context: int
    batch: int
    steps: int
    epochs: int
    configurations: int

    def build(self) -> GPT:
        """The full network."""
        return GPT(self.width, self.depth, self.context)


SCALES: Final = {
    "smoke": Scale(128, 4, 8, 4, 2, 3, 3),
    "cpu": Scale(128, 8, 64, 8, 25, 9, 27),
}

SPACE: Final = SearchSpace(
    {
        "learning_rate": Float(1e-4, 3e-2, log=True),
        "weight_decay": Float(1e-3, 1.0, log=True),
        "warmup": Float(0.0, 0.4),
        "forgetting": Float(1e-3, 0.1, log=True),
    }
)
"""``forgetting`` is 1 - beta 2, ``warmup`` the share of the training in which the rate rises."""


@dataclass(frozen=True)
class Way:
    """One way to judge a configuration: what is left of width and depth, by which rule, and of the epochs."""

    name: str
    width: float = 1.0
    depth: float = 1.0
    rule: str = "mup"
    short: bool = False
    seed: int = 0


TRUTH: Final = Way("the full network", seed=1)
WAYS: Final = (
    TRUTH,
    Way("the full network, another seed"),
    *(
        Way(f"{name}{', one epoch' if short else ''}, {rule}", width, depth, rule, short)
        for name, width, depth, lengths in (
            ("1/4 of the width", 1 / 4, 1.0, (False, True)),
            ("1/8 of the width", 1 / 8, 1.0, (False, True)),
            ("1/4 of the depth", 1.0, 1 / 4, (False,)),
            ("1/8 of the width, 1/4 of the depth", 1 / 8, 1 / 4, (False, True)),
        )
        for short in lengths
        for rule in ("mup", "norm-aware", "identity")
    ),
)
