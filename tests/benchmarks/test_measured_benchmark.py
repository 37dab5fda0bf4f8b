"""The measured rule of ``benchmarks.measured``: what must be 1, and what theory knows of a plain linear layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.measured.runs import factors
from prunetune import prune
from prunetune.engine import fresh_proxy


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4))


def batch(source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(32, 8, generator=source), torch.randint(4, (32,), generator=source)


def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups)


def adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups)


def test_the_same_network_wants_no_correction() -> None:
    found = factors(build, build, batch, sgd, 0.01)
    assert found == pytest.approx(dict.fromkeys(dict(build().named_parameters()), 1.0), rel=1e-5)


def test_with_adam_a_narrower_hidden_layer_wants_a_larger_rate() -> None:
    """Table 3 of Tensor Programs V has 4 for a quarter of the inputs, and 1 for the first layer."""
    plan = prune(build(), torch.zeros(2, 8), scorer="uniform", ratio=0.25).plan
    found = factors(build, lambda: fresh_proxy(build, plan), batch, adam, 1e-4)
    assert found["2.weight"] > 1.5 * found["0.weight"]
    assert found["2.weight"] == pytest.approx(4.0, rel=0.6)
    assert found["0.weight"] == pytest.approx(1.0, rel=0.6)
