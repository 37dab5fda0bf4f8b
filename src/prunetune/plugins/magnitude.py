"""Magnitude of the weights (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1)."""

from __future__ import annotations

from prunetune.plugins.base import ChannelScores, Context, Scorer, mean_except


class Magnitude(Scorer):
    """Mean |w| of a channel's weights.

    Li et al. rank filters within a layer by the sum; the mean ranks them alike there, and makes layers of different
    fan-in comparable under one global threshold.
    """

    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: mean_except(w.detach().abs(), axis[1]) for axis, w in context.weights().items()}
