"""Random scores: the baseline that a method has to beat."""

from __future__ import annotations

import torch

from prunetune.plugins.base import ChannelScores, Context, Scorer


class Random(Scorer):
    """Uniform random numbers in [0, 1), the same for the same seed on every device."""

    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        weights = context.weights()
        return {axis: torch.rand(w.shape[axis[1]], generator=context.generator) for axis, w in weights.items()}
