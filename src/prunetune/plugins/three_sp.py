"""3SP (van Amersfoort et al. 2020, "Single Shot Structured Pruning Before Training")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunetune.engine import flops_of_units
from prunetune.plugins.base import ChannelScores, Context, Need, Scorer, join
from prunetune.plugins.gradients import gate_derivatives
from prunetune.plugins.parts import gate


class ThreeSP(Scorer):
    """|dL/dz| of a gate z = 1 that multiplies a channel, divided by the compute that removing the channel saves.

    Sections 3.1 and 3.2. By the chain rule |dL/dz| is |sum of w * dL/dw| over the filter and its bias, and over all
    filters that go with it. The compute is FLOPs of a forward pass, in the channel's own layers and in all that read
    them. At initialisation, on one batch; batch norms use their running statistics (see `Taylor`).

    Parameters
    ----------
    compute_aware
        Divide by the compute; False is the paper's version without.
    """

    reduce = staticmethod(gate)
    needs = frozenset({Need.DATA, Need.LOSS})

    def __init__(self, *, compute_aware: bool = True) -> None:
        self.compute_aware = compute_aware

    def channel_scores(self, context: Context) -> ChannelScores:
        return gate_derivatives(context, self.reduce)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        scores = join(self.channel_scores(context), context.graph, self.reduce)
        if self.compute_aware:
            saved = flops_of_units(context.graph)
            scores = scores / np.where(saved > 0, saved / max(saved.max(), 1.0), 1.0)
        return self.normalise(scores, context.graph)
