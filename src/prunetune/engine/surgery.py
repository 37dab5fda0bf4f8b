"""Apply a plan: the only place where a network is cut, and it is a copy that is."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from prunetune.engine.depth.shortcut import Shortcut, shortcut_of
from prunetune.engine.plan import PruningPlan, TensorCut
from prunetune.engine.tracing.copies import copy_with, named_modules, named_tensors, parameter_like
from prunetune.errors import PlanError

_cut_by: Final[weakref.WeakKeyDictionary[nn.Module, PruningPlan]] = weakref.WeakKeyDictionary()


def apply(plan: PruningPlan, model: nn.Module) -> nn.Module:
    """A copy of `model`, of its own class, cut as `plan` says; `model` itself is not changed.

    First every bypassed module becomes its shortcut, then tensors are cut; what is bypassed is not copied. The hooks
    around the calls of a bypassed module stay, and run around its shortcut; those of its submodules go with them.

    Device, dtype, training flag, `requires_grad`, hooks and tied weights are as in `model`; gradients are not carried.

    Raises
    ------
    PlanError
        If the plan was made for another architecture (a tensor or attribute is missing or has another size, or there is
        no module to bypass).
    """
    stand_ins = _stand_ins(plan, model)
    tensors = named_tensors(model, stand_ins)
    _check(plan, model, tensors)
    known: Indices = {}
    replacements = {id(tensors[name]): cut_tensor(tensors[name], cut, known) for name, cut in plan.tensors.items()}
    smaller = copy_with(model, replacements, stand_ins)
    for path, change in plan.attributes.items():
        _set_attribute(smaller, path, change.after)
    for _, module in named_modules(smaller):
        _recompute(module)
        _describe(module)
    before = _cut_by.get(model)
    _cut_by[smaller] = plan if before is None else before.then(plan)
    return smaller


def plan_of(model: nn.Module) -> PruningPlan | None:
    """The plan by which this very object was cut from a full network; None for one that `apply` did not make."""
    return _cut_by.get(model)


def _stand_ins(plan: PruningPlan, model: nn.Module) -> dict[int, nn.Module]:
    """What stands in for the bypassed modules, by their ids."""
    kind = type(model).__name__
    found: dict[int, nn.Module] = {}
    for path, tail in plan.bypasses.items():
        module = _submodule(model, path)
        if module is None or module is model:
            raise PlanError(f"the plan does not fit {kind}: it bypasses {path!r}, which {kind} does not have")
        if isinstance(module, Shortcut):
            raise PlanError(f"the plan does not fit {kind}: it bypasses {path}, which is bypassed already")
        if next(module.parameters(), None) is None:
            raise PlanError(f"the plan does not fit {kind}: it bypasses {path}, which has no parameters")
        found[id(module)] = shortcut_of(module, tail)
    return found


def bypassed_modules(plan: PruningPlan, model: nn.Module) -> frozenset[int]:
    """The ids of the modules of `model` that `plan` bypasses."""
    return frozenset(id(_submodule(model, path)) for path in plan.bypasses)


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _check(plan: PruningPlan, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    kind = type(model).__name__
    ends: dict[int, tuple[int, int]] = {}
    for name, cut in plan.tensors.items():
        if name not in tensors:
            raise PlanError(f"the plan does not fit {kind}: it cuts {name}, which {kind} does not have")
        shape = tuple(tensors[name].shape)
        if shape != cut.shape:
            raise PlanError(
                f"the plan does not fit {kind}: {name} has shape {shape}, the plan was made for {cut.shape}"
            )
        for dim, kept in cut.keep.items():
            if id(kept) not in ends:
                ends[id(kept)] = (min(kept, default=-1), max(kept, default=-1))
            least, most = ends[id(kept)]
            if not 0 <= dim < len(shape) or least < 0 or most >= shape[dim]:
                raise PlanError(f"the plan is broken: {name} of shape {shape} has no such indices in dimension {dim}")
    for path, change in plan.attributes.items():
        value = _get_attribute(model, path)
        if value != change.before:
            raise PlanError(f"the plan does not fit {kind}: {path} is {value!r}, the plan was made for {change.before}")


Indices: TypeAlias = dict[tuple[int, torch.device], Tensor]
"""Indices that stay as tensors, by the id of their tuple: many tensors are cut alike."""


def _indices(kept: tuple[int, ...], device: torch.device, known: Indices) -> Tensor:
    key = (id(kept), device)
    if key not in known:
        known[key] = torch.from_numpy(np.fromiter(kept, dtype=np.int64, count=len(kept))).to(device)
    return known[key]


def cut_tensor(tensor: Tensor, cut: TensorCut, known: Indices | None = None) -> Tensor:
    """The part of a tensor that stays, in memory of its own if anything goes, and in the tensor's memory format.

    Who cuts many tensors by one plan hands over a dict, `known`, in which they share what they have in common.
    """
    known = {} if known is None else known
    smaller = tensor.detach()
    indices = {dim: _indices(kept, tensor.device, known) for dim, kept in cut.keep.items()}
    if list(indices) == [0, 1]:  # both at once: half the memory to go through
        smaller = smaller[indices[0][:, None], indices[1]]
    else:
        for dim, kept in indices.items():
            smaller = smaller.index_select(dim, kept)
    return parameter_like(tensor, smaller.to(memory_format=_memory_format(tensor)))


def _memory_format(tensor: Tensor) -> torch.memory_format:
    """Channels last where the strides say so; ``is_contiguous`` says yes to both for kernels of one place."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.ndim)
    if last is None:
        return torch.contiguous_format
    like = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta", memory_format=last)
    plain = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return last if tensor.stride() == like.stride() != plain.stride() else torch.contiguous_format


_PATH = re.compile(r"^(?:(?P<module>.*)\.)?(?P<name>\w+)(?:\[(?P<index>\d+)\])?$")


def _split(model: nn.Module, path: str) -> tuple[nn.Module | None, str, int | None]:
    match = _PATH.match(path)
    if match is None:
        return None, path, None
    module = _submodule(model, match["module"] or "")
    return module, match["name"], None if match["index"] is None else int(match["index"])


def _get_attribute(model: nn.Module, path: str) -> Any:
    module, name, index = _split(model, path)
    value = None if module is None else vars(module).get(name)
    if index is None or not isinstance(value, (tuple, list)) or index >= len(value):
        return None if index is not None else value
    return value[index]


def _set_attribute(model: nn.Module, path: str, value: int) -> None:
    module, name, index = _split(model, path)
    assert module is not None  # _check has read it
    if index is None:
        vars(module)[name] = value
        return
    items = list(vars(module)[name])
    items[index] = value
    vars(module)[name] = items if isinstance(vars(module)[name], list) else tuple(items)


def _convolution(module: Any) -> dict[str, int]:
    out, within = (1, 0) if module.transposed else (0, 1)
    sizes = {out: module.weight.shape[out], within: module.weight.shape[within]}
    if module.transposed:
        return {"in_channels": sizes[0], "out_channels": sizes[1] * module.groups}
    return {"in_channels": sizes[1] * module.groups, "out_channels": sizes[0]}


def _batch_norm(module: Any) -> dict[str, int]:
    tensor = module.weight if module.weight is not None else module.running_mean
    return {} if tensor is None else {"num_features": tensor.shape[0]}


def _recurrent(module: Any) -> dict[str, int]:
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    state = module.weight_hh_l0.shape[1]
    sizes = {"input_size": module.weight_ih_l0.shape[1]}
    if module.proj_size:
        return {**sizes, "hidden_size": module.weight_hr_l0.shape[1], "proj_size": state}
    return {**sizes, "hidden_size": state}


def _attention(module: Any) -> dict[str, int]:
    width = module.out_proj.weight.shape[1]
    sources = (module.k_proj_weight, module.v_proj_weight)
    kdim, vdim = (module.embed_dim if w is None else w.shape[1] for w in sources)
    return {"head_dim": width // module.num_heads, "kdim": kdim, "vdim": vdim}


# What a module says of its own size without reading it in `forward`: derived from its tensors after a cut.
DESCRIPTIONS: dict[type[nn.Module], Callable[[Any], dict[str, int]]] = {
    nn.modules.conv._ConvNd: _convolution,
    nn.Linear: lambda m: {"in_features": m.weight.shape[1], "out_features": m.weight.shape[0]},
    nn.modules.batchnorm._NormBase: _batch_norm,
    nn.GroupNorm: lambda m: {} if m.weight is None else {"num_channels": m.weight.shape[0]},
    nn.Embedding: lambda m: {"num_embeddings": m.weight.shape[0], "embedding_dim": m.weight.shape[1]},
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: lambda m: {"input_size": m.weight_ih.shape[1], "hidden_size": m.weight_hh.shape[1]},
    nn.MultiheadAttention: _attention,
    nn.PReLU: lambda m: {"num_parameters": m.weight.shape[0]},
}


def _recompute(module: nn.Module) -> None:
    """Anew what torch's hooks leave on a module before each call: the weights of masks and of older weight norms."""
    for hook in module._forward_pre_hooks.values():
        name = getattr(hook, "_tensor_name", getattr(hook, "name", None))
        if type(hook).__module__.startswith("torch.nn.utils.") and isinstance(vars(module).get(str(name)), Tensor):
            training, module.training = module.training, False  # a spectral norm would take a step of its iteration
            with torch.no_grad():
                hook(module, ())
            module.training = training


def _describe(module: nn.Module) -> None:
    kind = type(module)
    if kind not in _KNOWN:
        _KNOWN[kind] = tuple(sizes for of, sizes in DESCRIPTIONS.items() if issubclass(kind, of))
    for sizes in _KNOWN[kind]:
        for name, value in sizes(module).items():
            if vars(module).get(name) != value:
                setattr(module, name, int(value))


_KNOWN: dict[type[nn.Module], tuple[Callable[[Any], dict[str, int]], ...]] = {}
"""The descriptions of each class of modules, looked up once."""
