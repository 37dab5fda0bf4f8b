"""Magnitude of the weights (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.plugins.base import ChannelScores, Context, Scorer


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
    """Over all dimensions but one, without a copy of the weight in between."""
    others = [d for d in range(weight.ndim) if d != dim]
    if not others:
        return weight.abs()
    total: Tensor = torch.linalg.vector_norm(weight, ord=order, dim=others)
    count = weight.numel() / weight.shape[dim]
    mean: Tensor = total * count ** (-1 / order)
    return mean
