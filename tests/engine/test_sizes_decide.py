"""Code that decides by a size, and may decide otherwise once the network is cut: that is seen, and refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.errors import PlanError


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x * 2.0 if x.shape[-1] > 5 else x + 1.0)


class Shortcut(nn.Module):
    """Adds its input where that fits, as some residual blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y + x if y.shape == x.shape else y)


@pytest.mark.parametrize(("model", "before", "after"), [(Branches(), "mul", "add"), (Shortcut(), "linear", "add")])
def test_another_way_through_the_code_is_refused(model: nn.Module, before: str, after: str) -> None:
    weights = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(PlanError, match=f"operation 2 was {before} and is {after}; its code decides by a size"):
        prune(model, torch.ones(2, 4), scorer="magnitude", ratio=0.5)
    assert all(torch.equal(t, weights[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("model", [Branches(), Shortcut()])
def test_the_same_way_is_not(model: nn.Module) -> None:
    assert prune(model, torch.ones(2, 4), scorer="magnitude", ratio=0.75).model.a.out_features == 6
