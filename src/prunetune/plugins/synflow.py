"""The structured, single-shot SynFlow of Lee & Yim (2022), "Hyperparameter Optimization with Neural Network Pruning".

Section 4, equations 1 and 2, after Tanaka et al. (2020), "Pruning neural networks without any data by iteratively
conserving synaptic flow". See `docs/decisions/0003-synflow.md` for what the paper leaves open.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.engine.labels import Axis
from prunetune.plugins.base import ChannelScores, Context, Scorer, mean_except
from prunetune.plugins.gradients import gradients_of, in_double, one_of_equals, ones_for_zeros, run, sum_of_outputs


class SynFlow(Scorer):
    """Eq. 1: S = w * dR/dw with R the sum of all outputs; eq. 2: the mean of S over a channel's weights.

    One forward and one backward pass, signed weights and signed scores, no iteration, as in the paper. Batch norm is
    in evaluation mode: in training mode a filter's scores sum to zero, because the loss does not change with the
    filter's scale. The signed rule follows the sign of R, which at initialisation is a coin flip: with R < 0 it
    prefers the channels that the absolute rule would remove first. `absolute` is the form without the coin flip.
    Example inputs that are all zeros, which stand for a shape, become ones, Tanaka et al.'s input: from zeros nothing
    flows through a network without biases.

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
    """Eq. 1 in float64 for every weight that has channels to remove; shape of the weight.

    Of a batch of equal examples, as ones are, the first is run: the others' share is the same.
    Where the network calls a kernel that has no float64 (transformers' mixtures of experts), in its own precision.
    """
    model, inputs = context.model, ones_for_zeros(context.example_inputs)
    own = {name: tensor.dtype for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    weights = context.weights()
    doubled, times = one_of_equals(model.double(), in_double(inputs))
    with torch.enable_grad():
        for weight in weights.values():
            weight.requires_grad_(True)
        try:
            total = sum_of_outputs(run(model, doubled))
        except RuntimeError:
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                tensor.data = tensor.data.to(own[name])
            total, times = sum_of_outputs(run(model, inputs)), 1
    gradients = gradients_of(total, list(weights.values()))
    return {axis: (w * g).detach() * times for (axis, w), g in zip(weights.items(), gradients, strict=True)}
