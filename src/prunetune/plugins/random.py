"""Random scores: the baseline that a method has to beat."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from prunetune.plugins.base import ChannelScores, Context, Scorer, of_units


class Random(Scorer):
    """A uniform random number in [0, 1) for each unit, the same for the same seed on every device.

    Not the mean of one for each of its members: that of many is never far from a half, so that under one threshold
    coupled channels would all stay or all go.
    """

    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        """Of every producing axis, the scores of the units that its channels belong to."""
        return of_units(self.unit_scores(context), context.graph)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        scores = torch.rand(context.graph.unit_count + 1, generator=context.generator, dtype=torch.float64).numpy()
        return self.normalise(scores, context.graph)
