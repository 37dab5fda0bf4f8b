"""What `prune` tells of its result beside the proxy itself."""

from __future__ import annotations

import torch
from torch import nn

from prunetune import prune


class Stages(nn.Module):
    """A stem, one residual block, and a head; batch norms, which are no layers of their own here, between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.b = nn.Conv2d(12, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.b(self.norm(self.a(x)).relu())
        return self.fc(self.c(x).mean((2, 3)))


def test_a_group_knows_the_layers_that_make_and_read_its_channels() -> None:
    result = prune(Stages(), torch.ones(2, 3, 8, 8), scorer="magnitude", ratio=0.5)
    names = [layer.name.removesuffix(".weight") for layer in result.layers]
    tied = {
        frozenset(names[i] for i in group.made_by): {names[i] for i in group.read_by} for group in result.groups
    }  # fmt: skip
    assert tied == {
        frozenset({"stem", "b"}): {"a", "c"},
        frozenset({"a"}): {"b"},
        frozenset({"c"}): {"fc"},
    }
