"""Network slimming (Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from prunetune.errors import InputError
from prunetune.plugins.base import ChannelScores, Context, Need, Scorer, batch_norms


class SlimmingPenalty:
    """The L1 penalty on the scales of all batch norms, in training (section 3, eq. 1): a call after `backward()`.

    Adds s * sign(gamma) to the gradient of every scale, the gradient of s * sum abs(gamma), as the authors' code does.
    Without it the scales carry little information.

    Parameters
    ----------
    model
        The network that is trained.
    strength
        s, 1e-4 in the paper for CIFAR (1e-5 for ImageNet).

    Raises
    ------
    InputError
        If the model has no batch norm with a scale.

    Example
    -------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    >>> penalty = SlimmingPenalty(net, strength=0.5)
    >>> net(torch.ones(2, 3, 5, 5)).sum().mul(0).backward()
    >>> penalty()
    >>> net[1].weight.grad
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    def __init__(self, model: nn.Module, strength: float = 1e-4) -> None:
        self.scales = [scale for _, scale in batch_norms(model)]
        self.strength = strength
        if not self.scales:
            raise InputError(f"SlimmingPenalty needs batch norms; {type(model).__name__} has none with a scale")

    @torch.no_grad()
    def __call__(self, *_: Any) -> None:
        """Add the penalty's gradient; arguments, such as an engine's, are not looked at."""
        for scale in self.scales:
            if scale.requires_grad:
                own = torch.sign(scale) * self.strength
                scale.grad = own if scale.grad is None else scale.grad.add_(own)


class Slimming(Scorer):
    """The size of the batch norm's gamma behind a channel (section 3), of a network trained with `SlimmingPenalty`.

    One threshold for the whole network, as in the paper. The published code has no floor, and a layer can vanish; here
    every group keeps one unit at least. Channels without a batch norm are not judged, and stay.
    """

    only_reads = True
    needs = frozenset({Need.TRAINED, Need.BATCH_NORM})

    def check(self, model: nn.Module, data: object) -> None:
        super().check(model, data)
        values = torch.cat([scale.detach().flatten().float() for _, scale in batch_norms(model)])
        if values.numel() > 1 and bool((values == values[0]).all()):
            raise InputError(
                f"{self.title} needs a trained network; all {values.numel()} scales of its batch norms are "
                f"{values[0].item():g}, so nothing tells channels apart: train it with SlimmingPenalty"
            )

    def channel_scores(self, context: Context) -> ChannelScores:
        axes: Mapping[Any, Any] = context.graph.axes
        return {(name, 0): scale.detach().abs() for name, scale in batch_norms(context.model) if (name, 0) in axes}


__all__ = ["Slimming", "SlimmingPenalty"]
