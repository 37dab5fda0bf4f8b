"""Is a cut exact? Decided without the engine: by the plan's numbers, and torch.

The cut network must equal the original in which the *consuming* weights of the removed channels are zero: for every
weight, the input indices that the plan removes. Everything is in float64, and all weights and statistics are drawn at
random, so that no channel is zero by chance.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunetune.engine import ExampleInputs, PruningPlan, call_arguments

TOLERANCE = 1e-9
"""By how much of the largest value an output may be wrong, in float64."""


class WrongCutError(AssertionError):
    """What the cut network computes is not what the oracle says."""


def randomise(model: nn.Module, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The same model, of this dtype, with random weights, biases and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    model._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter.numel() // parameter.shape[0]) if parameter.ndim > 1 else 1
            kind = torch.complex128 if parameter.is_complex() else torch.float64
            noise = torch.randn(parameter.shape, generator=generator, dtype=kind)
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


def outputs(model: nn.Module, inputs: ExampleInputs) -> list[Tensor]:
    """All tensors in what the model returns."""
    with torch.no_grad():
        args, kwargs = call_arguments(inputs)
        out = model(*args, **kwargs)
    return [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]


def assert_equal(expected: Sequence[Tensor], actual: Sequence[Tensor], tolerance: float = TOLERANCE) -> None:
    """Raise WrongCutError unless every output is the same, by its own largest value."""
    for e, a in zip(expected, actual, strict=True):
        if e.shape != a.shape:
            raise WrongCutError(f"an output has shape {tuple(a.shape)}, it should be {tuple(e.shape)}")
        error = float((e - a).abs().max() / e.abs().max().clamp(min=1e-5))
        if not error < tolerance and bool(e.isfinite().all()):
            raise WrongCutError(f"an output is wrong by {error:.1e} of its largest value")


def relative_error(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> float:
    """The largest difference of all outputs, relative to the largest expected one."""
    shapes = [[tuple(t.shape) for t in each] for each in (expected, actual)]
    if shapes[0] != shapes[1]:
        raise WrongCutError(f"the outputs have shapes {shapes[1]}, they should be {shapes[0]}")
    scale = max(float(e.abs().max()) for e in expected)
    if not scale > 0:
        raise WrongCutError("the oracle is blind: all outputs are zero")
    return max(float((e - a).abs().max()) for e, a in zip(expected, actual, strict=True)) / scale


def largest_error(model: nn.Module, pruned: nn.Module, plan: PruningPlan, inputs: ExampleInputs) -> float:
    """The largest difference, relative to the largest output of the original."""
    return relative_error(outputs(without_consumers(model, plan), inputs), outputs(pruned, inputs))


class _MaskedNorm(nn.Module):
    """A normalisation across channels that sees only the channels that stay, and gives zeros for the others."""

    eps = math.nan
    """Equal to nothing: torch's fused encoder layer, which would not call this module, asks for equal ones."""

    def __init__(self, norm: nn.Module, keep: tuple[tuple[int, Tensor], ...]) -> None:
        super().__init__()
        self.norm: Any = norm
        self.keep = keep

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


_SCALED: dict[str, str] = {
    "ShiftedWindowAttention": "qkv",
    "ShiftedWindowAttention3d": "qkv",
    "ModernBertAttention": "Wqkv",
}
"""Attentions whose own code scales queries by 1 / sqrt(head size), and their projections."""


def scale_queries(model: nn.Module, plan: PruningPlan) -> None:
    """Make queries larger where the module's own code scales them by 1 / sqrt(head size): the head has shrunk."""
    for name, module in model.named_modules():
        if (layer := _SCALED.get(type(module).__name__)) is not None:
            projection = module.get_submodule(layer)
            _scale(plan, f"{name}.{layer}.weight", projection.weight, projection.bias)


def _scale_all_queries(model: nn.Module, plan: PruningPlan) -> None:
    """Torch's own attention, too."""
    scale_queries(model, plan)
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            _scale(plan, f"{name}.in_proj_weight", module.in_proj_weight, module.in_proj_bias)


def _scale(plan: PruningPlan, name: str, *projection: Any) -> None:
    cut = plan.tensors.get(name)
    if cut is not None and 0 in cut.keep:
        with torch.no_grad():
            for tensor in projection:
                if tensor is not None:
                    tensor[: len(tensor) // 3] *= (cut.shape[0] / len(cut.keep[0])) ** 0.5


def masked_norms(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """The original, with the normalisations across channels that the plan cuts made to see only what stays.

    The default scale of attention, 1 / sqrt(head size), counts as one.
    """
    original = copy.deepcopy(model)
    _scale_all_queries(original, plan)
    for name, module in list(original.named_modules()):
        cut = plan.tensors.get(f"{name}.weight")
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)) and cut is not None:
            keep = tuple((dim, torch.tensor(kept)) for dim, kept in cut.keep.items())
            parent, _, leaf = name.rpartition(".")
            setattr(original.get_submodule(parent), leaf, _MaskedNorm(module, keep))
    return original


def zeroed(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """The original with zeros for all that the plan removes, where it is made and where it is read.

    For whole architectures, where a removed channel may meet others in products; needs `SeesWhatStays` when it runs.
    """
    original = copy.deepcopy(model)
    parameters = dict(original.named_parameters())
    with torch.no_grad():
        for name, cut in plan.tensors.items():
            for dim, kept in cut.keep.items():
                if name in parameters:
                    gone = sorted(set(range(cut.shape[dim])) - set(kept))
                    parameters[name].index_fill_(dim, torch.tensor(gone), 0.0)
    _scale_all_queries(original, plan)
    return original


def _by_function(model: nn.Module) -> nn.Module:
    """Let RMS norms that transformers write out, in float32, call torch's function."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.forward = functools.partial(_rms_norm, module)
    return model


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    return functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


class SeesWhatStays(TorchFunctionMode):
    """Normalisations across channels, and attention's default scale, go by the channels whose weights are not zero."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        run = {
            functional.layer_norm: self.layer_norm,
            functional.rms_norm: self.rms_norm,
            functional.group_norm: self.group_norm,
            functional.batch_norm: self.batch_norm,
            functional.scaled_dot_product_attention: self.attention,
        }.get(func, func)
        return run(*args, **kwargs)

    @staticmethod
    def _parts(weight: Tensor | None, bias: Tensor | None, width: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        kept = torch.arange(width) if weight is None else weight.nonzero().ravel()
        return kept, None if weight is None else weight[kept], None if bias is None else bias[kept]

    @classmethod
    def layer_norm(cls, x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        if len(shape) > 1 or weight is None:
            return functional.layer_norm(x, shape, weight, bias, eps)
        kept, w, b = cls._parts(weight, bias, shape[0])
        part = functional.layer_norm(x[..., kept], (len(kept),), w, b, eps)
        return torch.zeros_like(x).index_copy(-1, kept, part)

    @classmethod
    def rms_norm(cls, x: Tensor, shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
        kept, w, _ = cls._parts(weight, None, shape[0])
        return torch.zeros_like(x).index_copy(-1, kept, functional.rms_norm(x[..., kept], (len(kept),), w, eps))

    @classmethod
    def group_norm(cls, x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        kept, w, b = cls._parts(weight, bias, x.shape[1])
        return torch.zeros_like(x).index_copy(1, kept, functional.group_norm(x[:, kept], groups, w, b, eps))

    @staticmethod
    def batch_norm(
        x: Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None, *args: Any, **rest: Any
    ) -> Any:
        if mean is not None:
            return functional.batch_norm(x, mean, var, weight, bias, *args, **rest)
        there = x != 0  # weight standardisation: x is the weight, (1, O, I * k), and sees only the inputs that stay
        n = there.sum(-1, keepdim=True).clamp(min=1)
        centred = torch.where(there, x - x.sum(-1, keepdim=True) / n, 0.0)
        spread = (centred.square().sum(-1, keepdim=True) / n + rest["eps"]).sqrt()
        return centred / spread * (1 if weight is None else weight[None, :, None])

    @staticmethod
    def attention(
        query: Tensor, key: Tensor, value: Tensor, *args: Any, scale: float | None = None, **rest: Any
    ) -> Any:
        if scale is None:
            scale = int((query != 0).reshape(-1, query.shape[-1]).any(0).sum()) ** -0.5
        return functional.scaled_dot_product_attention(query, key, value, *args, **{**rest, "scale": scale})


def error_of_architecture(model: nn.Module, pruned: nn.Module, plan: PruningPlan, inputs: ExampleInputs) -> float:
    """As `largest_error`, with `zeroed` and `SeesWhatStays`."""
    with SeesWhatStays():
        expected = outputs(_by_function(zeroed(model, plan)), inputs)
    return relative_error(expected, outputs(_by_function(copy.deepcopy(pruned)), inputs))
