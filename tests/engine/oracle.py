"""Is a cut exact? Decided without the engine: by the plan's numbers, and torch.

The cut network must equal the original in which the *consuming* weights of the removed channels are zero: for every
weight, the input indices that the plan removes. Everything is in float64, and all weights and statistics are drawn at
random, so that no channel is zero by chance.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune.engine import PruningPlan


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """The same model in float64 with random weights, biases and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter.numel() // parameter.shape[0]) if parameter.ndim > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise / fan**0.5 if parameter.ndim > 1 else 1 + 0.3 * noise)
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                noise = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
                buffer.copy_(0.5 + noise if name.endswith("var") else 0.2 * noise)
    return model.eval()


def without_consumers(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """The original with zeros where a removed channel is read: input axis 1 of every weight.

    Two kinds of network say more about themselves: `matrices` names weights that are used as x @ W, whose input axis
    is 0; `multiplied` names layers whose outputs meet in a product (queries and keys), where a removed channel is
    read by no weight, so that it must be zero itself.
    """
    original = copy.deepcopy(model)
    parameters = dict(original.named_parameters())
    transposed = {f"{n}.weight" for n, m in original.named_modules() if isinstance(m, nn.modules.conv._ConvTransposeNd)}
    with torch.no_grad():
        for name, cut in plan.tensors.items():
            dim = 0 if name in transposed or name in getattr(model, "matrices", ()) else 1
            layer = name.rpartition(".")[0]
            if name in parameters and layer in getattr(model, "multiplied", ()) and 0 in cut.keep:
                gone = sorted(set(range(cut.shape[0])) - set(cut.keep[0]))
                parameters[name].index_fill_(0, torch.tensor(gone), 0.0)
            if name in parameters and len(cut.shape) > 1 and dim in cut.keep:
                gone = sorted(set(range(cut.shape[dim])) - set(cut.keep[dim]))
                parameters[name].index_fill_(dim, torch.tensor(gone), 0.0)
    return original


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        out = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]


def largest_error(model: nn.Module, pruned: nn.Module, plan: PruningPlan, inputs: Any) -> float:
    """The largest difference, relative to the largest output of the original."""
    expected = outputs(without_consumers(model, plan), inputs)
    actual = outputs(pruned, inputs)
    assert len(expected) == len(actual)
    assert all(e.shape == a.shape for e, a in zip(expected, actual, strict=True))
    scale = max(float(e.abs().max()) for e in expected)
    assert scale > 0, "the oracle is blind: all outputs are zero"
    return max(float((e - a).abs().max()) for e, a in zip(expected, actual, strict=True)) / scale


class _MaskedNorm(nn.Module):
    """A normalisation across channels that sees only the channels that stay, and gives zeros for the others."""

    def __init__(self, norm: nn.Module, keep: tuple[tuple[int, Tensor], ...]) -> None:
        super().__init__()
        self.norm, self.keep = norm, keep

    def forward(self, x: Tensor) -> Tensor:
        part, weight, bias = x, self.norm.weight, getattr(self.norm, "bias", None)
        channels_first = isinstance(self.norm, nn.GroupNorm)
        for dim, kept in self.keep:
            part = part.index_select(1 if channels_first else dim - self.norm.weight.ndim, kept)
            weight = weight.index_select(dim, kept)
            bias = bias.index_select(dim, kept) if bias is not None else None
        if channels_first:
            part = nn.functional.group_norm(part, self.norm.num_groups, weight, bias, self.norm.eps)
        elif isinstance(self.norm, nn.RMSNorm):
            part = nn.functional.rms_norm(part, weight.shape, weight, self.norm.eps)
        else:
            part = nn.functional.layer_norm(part, weight.shape, weight, bias, self.norm.eps)
        ((dim, kept),) = self.keep
        return torch.zeros_like(x).index_copy(1 if channels_first else x.ndim - self.norm.weight.ndim + dim, kept, part)


def masked_norms(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """The original, with the normalisations across channels that the plan cuts made to see only what stays.

    The default scale of attention, 1 / sqrt(head size), counts as one.
    """
    original = copy.deepcopy(model)
    for name, module in original.named_modules():
        cut = plan.tensors.get(f"{name}.in_proj_weight")
        if isinstance(module, nn.MultiheadAttention) and cut is not None and 0 in cut.keep:
            with torch.no_grad():
                for tensor in (module.in_proj_weight, module.in_proj_bias):
                    tensor[: module.embed_dim] *= (cut.shape[0] / len(cut.keep[0])) ** 0.5
    for name, module in list(original.named_modules()):
        cut = plan.tensors.get(f"{name}.weight")
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)) and cut is not None:
            keep = tuple((dim, torch.tensor(kept)) for dim, kept in cut.keep.items())
            parent, _, leaf = name.rpartition(".")
            setattr(original.get_submodule(parent), leaf, _MaskedNorm(module, keep))
    return original
