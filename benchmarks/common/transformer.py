"""Blocks of a transformer, small enough for a processor."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

HEAD: Final = 16
"""Channels of an attention head: narrower networks have fewer heads."""


class Block(nn.Module):
    """Attention and a perceptron four times as wide, each behind a layer norm and added to its input."""

    def __init__(self, width: int, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, tokens, width) to the same."""
        y = self.norm1(x)
        parts = (each(y).unflatten(-1, (-1, HEAD)).transpose(1, 2) for each in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(*parts, is_causal=self.causal)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        out: torch.Tensor = x + self.narrow(F.gelu(self.wide(self.norm2(x))))
        return out
