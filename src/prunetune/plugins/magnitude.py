"""Magnitude of the weights (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.plugins.base import ChannelScores, Context, Scorer

BLOCK = 2**17
"""Elements that are looked at together."""


class Magnitude(Scorer):
    """Mean |w| of a channel's weights, or the root of the mean square.

    Li et al. rank filters within a layer by the sum of magnitudes, and find the L2 norm no different (section 4.4);
    the mean ranks them alike there, and makes layers of different fan-in comparable under one global threshold.

    Parameters
    ----------
    order
        1: mean |w|; 2: sqrt(mean w^2).
    """

    only_reads = True

    def __init__(self, *, order: int = 1) -> None:
        self.order = order

    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: _norm(w.detach(), axis[1], self.order) for axis, w in context.weights().items()}


def magnitude_l2() -> Magnitude:
    """`Magnitude` by the root of the mean square."""
    return Magnitude(order=2)


def _norm(weight: Tensor, dim: int, order: int) -> Tensor:
    """Over all dimensions but one, block by block: what lies in between stays in the cache."""
    others = [d for d in range(weight.ndim) if d != dim]
    if not others:
        return weight.abs()
    rows = max(1, BLOCK * len(weight) // weight.numel())
    wide = torch.promote_types(weight.dtype, torch.float32)  # sums of half precision overflow
    sums = [(w.abs() if order == 1 else w.square()).sum(others, dtype=wide) for w in torch.split(weight, rows)]
    total = torch.cat(sums) if dim == 0 else torch.stack(sums).sum(0)
    mean = total / (weight.numel() / weight.shape[dim])
    return mean if order == 1 else mean.sqrt()
