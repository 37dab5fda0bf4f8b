"""GraSP (Wang, Zhang & Grosse 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow")."""

from __future__ import annotations

import torch
from torch import Tensor

from prunetune.errors import InputError
from prunetune.plugins.base import ChannelScores, Context, Need, Scorer, sum_except
from prunetune.plugins.gradients import first_output, gradients_of, loss_of, run, use_batch_statistics


class Grasp(Scorer):
    """w * Hg, g the gradient and H the Hessian of the loss: what a weight contributes to the flow of gradient.

    Algorithm 1: the authors' score is -w * Hg (eq. 8), and the *largest* are removed, so ours is its negative. The
    logits are divided by a temperature of 200, the gradient held constant on one side of the product g · g whose
    derivative is Hg; 10 to 25 images a class are what the authors use, so one batch should have about as many. Summed
    over a channel. Batch norms use the batch's statistics, as in the authors' code.
    """

    needs = frozenset({Need.DATA, Need.LOSS})
    temperature: float = 200.0

    def channel_scores(self, context: Context) -> ChannelScores:
        use_batch_statistics(context.model)
        weights = context.weights()
        tensors = list(weights.values())
        for tensor in tensors:
            tensor.requires_grad_(True)
        products: list[Tensor] = [torch.zeros_like(t) for t in tensors]
        for inputs, targets in context.data:
            with torch.enable_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                outputs = first_output(run(context.model, inputs))
                if not isinstance(outputs, Tensor):
                    raise InputError(f"{self.title} needs a tensor of logits; got {type(outputs).__name__}")
                loss = loss_of(context, outputs / self.temperature, targets)
                gradients = gradients_of(loss, tensors, create_graph=True)
                flow = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
            hessian = gradients_of(flow, tensors) if flow.requires_grad else products
            products = [p + h for p, h in zip(products, hessian, strict=True)]
        return {
            axis: sum_except((w * p).detach(), axis[1]) for (axis, w), p in zip(weights.items(), products, strict=True)
        }
