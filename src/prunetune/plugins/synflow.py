"""The structured, single-shot SynFlow of Lee & Yim (2022), "Hyperparameter Optimization with Neural Network Pruning".

Section 4, equations 1 and 2, after Tanaka et al. (2020), "Pruning neural networks without any data by iteratively
conserving synaptic flow". See `docs/decisions/0003-synflow.md` for what the paper leaves open.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from prunetune.engine import call_arguments
from prunetune.engine.labels import Axis
from prunetune.errors import InputError
from prunetune.plugins.base import ChannelScores, Context, Scorer, mean_except


class SynFlow(Scorer):
    """Eq. 1: S = w * dR/dw with R the sum of all outputs; eq. 2: the mean of S over a channel's weights.

    One forward and one backward pass, signed weights and signed scores, no iteration, as in the paper. Batch norm is
    in evaluation mode: in training mode a filter's scores sum to zero, because the loss does not change with the
    filter's scale. The signed rule follows the sign of R, which at initialisation is a coin flip: with R < 0 it
    prefers the channels that the absolute rule would remove first. `absolute` is the form without the coin flip.

    Parameters
    ----------
    absolute
        Take |S| in eq. 1 (not in the paper).
    """

    def __init__(self, *, absolute: bool = False) -> None:
        self.absolute = absolute

    def channel_scores(self, context: Context) -> ChannelScores:
        scores = element_scores(context)
        if self.absolute:
            scores = {axis: s.abs() for axis, s in scores.items()}
        return {axis: mean_except(s, axis[1]) for axis, s in scores.items()}


def synflow_absolute() -> SynFlow:
    """`SynFlow` with |S|."""
    return SynFlow(absolute=True)


def element_scores(context: Context) -> dict[Axis, Tensor]:
    """Eq. 1 in float64 for every weight that has channels to remove; shape of the weight."""
    model = context.model.double()
    args, kwargs = pytree.tree_map(
        lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf,
        call_arguments(context.example_inputs),
    )
    weights = context.weights()
    for weight in weights.values():
        weight.requires_grad_(True)
    with torch.enable_grad():
        out = model(*args, **kwargs)
        leaves = [t for t in pytree.tree_leaves(out) if isinstance(t, Tensor) and t.requires_grad]
        if not leaves:
            raise InputError(
                "synflow needs an output that depends on the weights; the model's outputs carry no gradient"
            )
        total = torch.stack([t.sum() for t in leaves]).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {
        axis: torch.zeros_like(w) if g is None else (w * g).detach()
        for (axis, w), g in zip(weights.items(), gradients, strict=True)
    }
