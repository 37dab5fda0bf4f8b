"""A rule for a module that torch runs by a kernel of its own: `python examples/own_operation.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import rule


class Squeeze(torch.autograd.Function):
    """x (..., I) times a weight (I, O), as a kernel that nobody can look into."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight

    @staticmethod
    def setup_context(ctx, inputs, _output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient @ weight.T, x.flatten(0, -2).T @ gradient.flatten(0, -2)


class FastLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return Squeeze.apply(x, self.weight)


# These are the lines. Without them the kernel is an operation without a rule: what it touches stays whole.
@rule(FastLinear)
def fast_linear(context, x):
    weight = context.parameter("weight")
    context.bind(weight, 0, context.vec(x, -1))  # its rows are cut as the last dimension of what comes in
    channels = context.produce(weight, 1)  # its columns are channels that can be removed
    return context.result([*context.vecs(x)[:-1], channels])


if __name__ == "__main__":
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), FastLinear(32, 24), nn.ReLU(), nn.Linear(24, 5))
    print(prune(model, torch.zeros(4, 10), scorer="magnitude", ratio=0.5).summary())
