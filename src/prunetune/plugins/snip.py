"""SNIP (Lee, Ajanthan & Torr 2019, "SNIP: Single-shot network pruning based on connection sensitivity")."""

from __future__ import annotations

from prunetune.plugins.base import ChannelScores, Context, Need, Scorer, sum_except
from prunetune.plugins.gradients import use_batch_statistics, weights_times_gradients


class Snip(Scorer):
    """Connection sensitivity |w * dL/dw| (section 4.1, eq. 6) at initialisation, on one batch; summed over a channel.

    The structured sum is that of van Amersfoort et al. 2020, section 3. The division by the sum over all weights (eq.
    6) changes no order; it makes scores of different batches comparable. Batch norms use the batch's statistics, as in
    the authors' code.
    """

    needs = frozenset({Need.DATA, Need.LOSS})

    def channel_scores(self, context: Context) -> ChannelScores:
        use_batch_statistics(context.model)
        products = weights_times_gradients(context, context.weights())
        scores = {axis: sum_except(s.abs(), axis[1]) for axis, s in products.items()}
        total = sum(float(s.sum()) for s in scores.values())
        return {axis: s / total if total else s for axis, s in scores.items()}
