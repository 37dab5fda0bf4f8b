"""A network without biases, and what the rule of Tensor Programs V makes of its rates."""

from __future__ import annotations

import torch
from torch import nn

INPUTS = torch.zeros(2, 6)
RATES = {"sgd": {"first": 0.25, "second": 1.0, "last": 4.0}, "adam": {"first": 1.0, "second": 4.0, "last": 4.0}}
"""By table 3 of Tensor Programs V, of a quarter of the width, for a rate of 1."""


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(*size, bias=False) for size in ((6, 32), (32, 32), (32, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.second(self.first(x).relu()).relu())
        return out
