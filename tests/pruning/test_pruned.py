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


def test_what_is_printed_by_itself_is_one_line() -> None:
    """stem and b are tied; half of 8, 12 and 16 channels stay, and the classifier's outputs are no units."""
    result = prune(Stages(), torch.ones(2, 3, 8, 8), scorer="magnitude", ratio=0.5)
    # 8 * 27 + 8, 12 * 72 + 12, 24, 8 * 108 + 8, 16 * 72 + 16, 5 * 16 + 5 parameters before,
    # 4 * 27 + 4, 6 * 36 + 6, 12, 4 * 54 + 4, 8 * 36 + 8, 5 * 8 + 5 after
    share = (112 + 222 + 12 + 220 + 296 + 45) / (224 + 876 + 24 + 872 + 1168 + 85)
    assert repr(result).startswith(f"<PruneResult: Stages with {share:.1%} of the parameters, ")
    assert repr(result.graph) == "<DependencyGraph: 36 units in 3 groups>"
    # weights and biases of the convolutions, four vectors of the batch norm, the classifier's weight
    assert repr(result.plan) == "<PruningPlan: 13 tensors cut, 0 blocks bypassed>"
