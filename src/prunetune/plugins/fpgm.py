"""Geometric median (He et al. 2019, "Filter Pruning via Geometric Median for Deep Neural Networks Acceleration")."""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.plugins.base import ChannelScores, Context, Scorer


class GeometricMedian(Scorer):
    """The distances of a filter to all others of its layer (eq. 7): those near the median are replaceable.

    The paper sums the distances and ranks within a layer; here they are means, over filters and over a filter's
    weights (root of the mean square), which ranks alike there and makes layers comparable under one threshold.
    """

    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: mean_distances(w.detach(), axis[1]) for axis, w in context.weights().items()}


def mean_distances(weight: Tensor, dim: int) -> Tensor:
    """Of every slice along `dim`: the mean over all slices of the root mean square of the difference."""
    filters = weight.movedim(dim, 0).flatten(1) if weight.ndim > 1 else weight[:, None]
    filters = filters.double()  # by |a|^2 + |b|^2 - 2ab, which leaves 6e-4 of |a| between twins in float32
    distances: Tensor = torch.cdist(filters, filters).mean(dim=1) / filters.shape[1] ** 0.5
    return distances
