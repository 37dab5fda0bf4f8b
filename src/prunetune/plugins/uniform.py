"""The same ratio everywhere: the baseline that every comparison of pruning methods needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunetune.plugins.base import ChannelScores, Context, Scorer, of_units


class Uniform(Scorer):
    """A unit's place in its group, from the end: under any threshold every group keeps the same share, its first units.

    For a proxy that is initialised afresh, which of equally many channels stay makes no difference.
    """

    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        """Of every producing axis, the scores of the units that its channels belong to."""
        return of_units(self.unit_scores(context), context.graph)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        scores = np.zeros(context.graph.unit_count + 1)
        for group in context.graph.groups:
            scores[list(group.units)] = 1.0 - (np.arange(len(group)) + 0.5) / len(group)
        return self.normalise(scores, context.graph)
