"""Average percentage of zeros (Hu et al. 2016, "Network Trimming: A Data-Driven Neuron Pruning Approach towards
Efficient Deep Architectures").
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from prunetune.engine import call_arguments
from prunetune.plugins.base import ChannelScores, Context, Need, Scorer

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECTIFIERS = (nn.ReLU, nn.ReLU6)


class Apoz(Scorer):
    """The share of a channel's activations after ReLU that are not zero: 1 - APoZ (eq. 1).

    The mean over all samples and places of the validation data, of which eight batches are looked at. Channels that go
    from their layer, or its batch norm, straight into an `nn.ReLU` are judged; all others stay.
    """

    needs = frozenset({Need.DATA, Need.TRAINED})
    batches = 8

    @torch.no_grad()
    def channel_scores(self, context: Context) -> ChannelScores:
        positive: dict[str, Tensor] = {}
        seen: dict[str, int] = defaultdict(int)

        def mark(weight: str) -> Any:
            def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
                output.comes_from = (weight, -1 if isinstance(layer, nn.Linear) else 1)  # where its channels are

            return hook

        def count(relu: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            weight, dim = getattr(inputs[0], "comes_from", (None, 0))
            if weight is not None:
                alive = (inputs[0] > 0).movedim(dim, 0).flatten(1)  # (channels, samples and places)
                positive[weight] = positive.get(weight, 0) + alive.sum(1)
                seen[weight] += alive.shape[1]

        for path, module in context.model.named_modules():
            if isinstance(module, LAYERS) and (f"{path}.weight", 0) in context.graph.axes:
                module.register_forward_hook(mark(f"{path}.weight"))
            elif isinstance(module, RECTIFIERS):
                module.register_forward_pre_hook(count)
        for inputs, _ in context.data:
            args, kwargs = call_arguments(inputs)
            context.model(*args, **kwargs)
        return {(weight, 0): alive / seen[weight] for weight, alive in positive.items()}
