"""First-order Taylor expansion (Molchanov et al. 2019, "Importance estimation for neural network pruning")."""

from __future__ import annotations

from prunetune.plugins.base import ChannelScores, Context, Need, Scorer, sum_except
from prunetune.plugins.gradients import weights_times_gradients
from prunetune.plugins.parts import gate


class Taylor(Scorer):
    """|sum of w * dL/dw over all that goes with a channel|: how the loss changes to first order when it goes.

    Section 3.1, eq. 8 for a group of weights: the square of the sum, whose order is that of its magnitude. For a
    trained network; batch norms use their running statistics, since under a batch's own the sum of a filter is zero.
    """

    reduce = staticmethod(gate)
    needs = frozenset({Need.DATA, Need.LOSS, Need.TRAINED})
    batches = 8

    def channel_scores(self, context: Context) -> ChannelScores:
        products = weights_times_gradients(context, context.weights())
        return {axis: sum_except(s, axis[1]) for axis, s in products.items()}
