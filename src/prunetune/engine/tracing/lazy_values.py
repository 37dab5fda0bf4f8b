"""Running a model whose code asks for values: "which boxes are good enough?"

Such a model cannot run on the meta device, and running it for real would take seconds where only the shapes matter.
So the result of a layer is *lazy*: a meta tensor, until the code looks at its values or mixes it with data (anchors,
targets). Then it becomes noise of that shape. An untrained network would give them noise as well.

Parameters are lazy, too: code that looks at one, or writes to it, gets a copy of its values. So nothing is written to
the user's, and only what is looked at takes memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from prunetune.engine.tracing.copies import all_tensors, copy_with, meta_like, parameter_like
from prunetune.engine.tracing.shapes import run_for_shape

_LAYERS = frozenset(
    {
        *(torch.conv1d, torch.conv2d, torch.conv3d),
        *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
        *(functional.linear, torch._C._nn.linear, functional.interpolate),
    }
)
_LAYERS_BY_NAME = ("torchvision::roi_align", "torchvision::deform_conv2d")
_DEVICE = torch.Tensor.device.__get__
_NOISE_PERIOD = 65521  # a prime, so that no two rows of a feature map are alike


def lazy_copy(model: nn.Module) -> tuple[nn.Module, dict[int, Tensor]]:
    """A copy of `model` with buffers of its own and parameters without values; and whose those are, by their ids."""
    lazy = {id(p): meta_like(p) for p in model.parameters()}
    return copy_with(model, lazy), {id(lazy[id(p)]): p for p in model.parameters()}


class LazyValues:
    """Calls torch functions; results are lazy until somebody looks at their values."""

    def __init__(self, model: nn.Module, weights: Mapping[int, Tensor]) -> None:
        self.own = {id(t): t for t in all_tensors(model)}
        self.weights = weights
        """The user's parameters, by the id of what stands for them in `model`."""
        self.device = next((t.device for t in (*weights.values(), *self.own.values())), torch.device("cpu"))
        self.shadows: dict[int, Tensor] = {}
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}
        """Of each lazy tensor that was looked at, by its id: itself, so that the id is not reused, and its values."""

    def __call__(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if func == _DEVICE:
            return self.device
        tensors = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        lazy = [t for t in tensors if t.is_meta and id(t) not in self.seen and id(t) not in self.weights]
        layer = func in _LAYERS or getattr(func, "_qualified_op_name", "") in _LAYERS_BY_NAME
        if layer or (lazy and all(t.is_meta or id(t) in self.own for t in tensors)):
            shape = self._shape_only(func, args, kwargs)
            if shape is not None:
                return shape
        if not any(t.is_meta for t in tensors):
            return func(*args, **kwargs)
        out = func(*self._each(self._real, args), **self._each(self._real, kwargs))
        back = {id(real): lazy for lazy, real in self.seen.values()}
        return back.get(id(out), out)  # what is changed in place stays the tensor that the model's code holds

    def _shape_only(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The lazy result, or None if its shape depends on values."""
        try:
            out = run_for_shape(func, self._each(self._shadow, args), self._each(self._shadow, kwargs))
        except Exception:  # for example a result whose size depends on values: the real call decides, and raises
            return None
        tensors = [v for v in pytree.tree_leaves(out) if isinstance(v, Tensor)]
        return out if all(t.is_meta and t.is_floating_point() for t in tensors) else None

    @staticmethod
    def _each(function: Callable[[Tensor], Tensor], values: Any) -> Any:
        return pytree.tree_map(lambda v: function(v) if isinstance(v, Tensor) else v, values)

    def _shadow(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self.own:
            return meta_like(tensor)
        if id(tensor) not in self.shadows:
            self.shadows[id(tensor)] = meta_like(tensor)
        return self.shadows[id(tensor)]

    def _real(self, tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in self.seen:
            weight = self.weights.get(id(tensor))
            values = _noise(tensor, self.device) if weight is None else parameter_like(weight, weight.detach().clone())
            self.seen[id(tensor)] = (tensor, values)
        return self.seen[id(tensor)][1]


def _noise(like: Tensor, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(like.numel())
    drawn = torch.randn(min(_NOISE_PERIOD, like.numel()), generator=generator).to(device, like.dtype)
    times = -(-like.numel() // max(1, len(drawn)))
    return drawn.repeat(times)[: like.numel()].reshape(like.shape)
