"""First-order Taylor expansion (Molchanov et al. 2019, "Importance estimation for neural network pruning")."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from prunetune.plugins.base import ChannelScores, Context, Need, Scorer, join
from prunetune.plugins.gradients import gate_derivatives
from prunetune.plugins.parts import gate


class Taylor(Scorer):
    """|sum of w * dL/dw over all that goes with a channel|: how the loss changes to first order when it goes.

    Section 3.1, eq. 8 for a group of weights: the square of the sum, of which section 3.2 takes the mean over batches
    (the mean gradient of a trained network is near zero, that of one batch is not); its root ranks alike. For a
    trained network; batch norms use their running statistics, since under a batch's own the sum of a filter is zero.
    """

    reduce = staticmethod(gate)
    needs = frozenset({Need.DATA, Need.LOSS, Need.TRAINED})
    batches = 8

    def channel_scores(self, context: Context) -> ChannelScores:
        return gate_derivatives(context, self.reduce)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        squares = np.zeros(context.graph.unit_count + 1)
        for batch in context.data:
            own = self.channel_scores(dataclasses.replace(context, data=(batch,)))
            squares += join(own, context.graph, self.reduce) ** 2
        return self.normalise(np.sqrt(squares / len(context.data)), context.graph)
