"""Magnitude of the weights (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.plugins.base import ChannelScores, Context, Scorer


class Magnitude(Scorer):
    """Mean |w| of a channel's weights.

    Li et al. rank filters within a layer by the sum; the mean ranks them alike there, and makes layers of different
    fan-in comparable under one global threshold.
    """

    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: _mean_magnitude(w.detach(), axis[1]) for axis, w in context.weights().items()}


def _mean_magnitude(weight: Tensor, dim: int) -> Tensor:
    """Over all dimensions but one, without a copy of the weight in between."""
    others = [d for d in range(weight.ndim) if d != dim]
    if not others:
        return weight.abs()
    total: Tensor = torch.linalg.vector_norm(weight, ord=1, dim=others)
    return total * (weight.shape[dim] / weight.numel())
