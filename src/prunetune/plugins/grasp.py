"""GraSP (Wang, Zhang & Grosse 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow")."""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.errors import InputError
from prunetune.plugins.base import Batch, ChannelScores, Context, Need, Scorer, sum_except
from prunetune.plugins.gradients import (
    first_output,
    gradients_of,
    loss_of,
    mean_gradients,
    run,
    use_batch_statistics,
)


class Grasp(Scorer):
    """w * Hg, g the gradient and H the Hessian of the loss: what a weight contributes to the flow of gradient.

    Algorithm 1: the authors' score is -w * Hg (eq. 8), and the *largest* are removed, so ours is its negative. The
    logits are divided by a temperature of 200, the gradient held constant on one side of the product g · g whose
    derivative is Hg; both are over the weights of all layers, those of the classifier, too. 10 to 25 images a class
    are what the authors use, so one batch should have about as many. Summed over a channel. Batch norms use the
    batch's statistics, as in the authors' code.
    """

    needs = frozenset({Need.DATA, Need.LOSS})
    temperature: float = 200.0

    def channel_scores(self, context: Context) -> ChannelScores:
        use_batch_statistics(context.model)
        weights = context.weights()
        others = [p for p in context.model.parameters() if p.ndim > 1 and p.is_floating_point()]
        tensors = list({id(t): t for t in [*weights.values(), *others]}.values())
        gradient = mean_gradients((self._loss(context, batch) for batch in context.data), tensors)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have one derivative
            flows = (self._flow(context, batch, gradient, tensors) for batch in context.data)
            products = dict(zip(map(id, tensors), mean_gradients(flows, tensors), strict=True))
        return {axis: sum_except((w * products[id(w)]).detach(), axis[1]) for axis, w in weights.items()}

    def _loss(self, context: Context, batch: Batch) -> Tensor:
        outputs = first_output(run(context.model, batch[0]))
        if not isinstance(outputs, Tensor):
            raise InputError(f"{self.title} needs a tensor of logits; got {type(outputs).__name__}")
        return loss_of(context, outputs / self.temperature, batch[1])

    def _flow(self, context: Context, batch: Batch, gradient: list[Tensor], tensors: list[Tensor]) -> Tensor:
        """The product of the gradient, a constant, with this batch's, whose derivative is H times the gradient."""
        own = gradients_of(self._loss(context, batch), tensors, create_graph=True)
        return torch.stack([(g * h).sum() for g, h in zip(gradient, own, strict=True)]).sum()
