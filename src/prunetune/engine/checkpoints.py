"""What belongs to a network and must be cut with it: its checkpoint, and the state of its optimizer."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from prunetune.engine.depth.shortcut import enclosing
from prunetune.engine.plan import PruningPlan, TensorCut
from prunetune.engine.surgery import bypassed_modules, cut_tensor, plan_of
from prunetune.engine.tracing.copies import named_tensors
from prunetune.errors import InputError, PlanError

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


def cut_state_dict(plan: PruningPlan, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A full network's checkpoint, cut for the network that `apply(plan, model)` gives.

    Tied weights, which a state dict has several times, are known by their common memory. What lies in bypassed modules
    is left out, and buffers that no checkpoint holds (`persistent=False`) are not asked for. The versions of the
    modules' formats, which `state_dict()` notes and some modules ask for, stay.

    Raises
    ------
    PlanError
        If a tensor of the plan is missing or has another shape, or there is nothing of a bypassed module.
    """
    cut = OrderedDict((name, value) for name, value in state_dict.items() if enclosing(name, plan.bypasses) is None)
    if hasattr(state_dict, "_metadata"):
        cut._metadata = state_dict._metadata  # type: ignore[attr-defined]
    for path in plan.bypasses:
        if not any(name.startswith(f"{path}.") for name in state_dict):
            raise PlanError(f"the plan does not fit this state dict: it bypasses {path}, which is not there")
    for name, change in plan.tensors.items():
        if not isinstance(state_dict.get(name), Tensor):
            if not change.persistent:
                continue
            raise PlanError(f"the plan does not fit this state dict: it cuts {name}, which is not there")
        whole = state_dict[name]
        if tuple(whole.shape) != change.shape:
            raise PlanError(
                f"the plan does not fit this state dict: {name} has shape {tuple(whole.shape)}, "
                f"the plan was made for {change.shape}"
            )
        smaller = cut_tensor(whole, change)
        for other, tensor in state_dict.items():
            if other in cut and isinstance(tensor, Tensor) and _same_memory(tensor, whole):
                cut[other] = smaller
    return cut


def load_cut(model: nn.Module, state_dict: Mapping[str, Any], *, strict: bool = True) -> Any:
    """Load a full network's checkpoint into `model`, whether that is the full network or a proxy of it.

    For a train function that loads a checkpoint itself: on the lower rungs of a search its model is narrower, and gets
    the part of the checkpoint that its plan keeps. The weights are kept slices, without a factor for the width.

    Parameters
    ----------
    model
        The full network, or a proxy of it as the train function is given it.
    state_dict
        The checkpoint of the full network.
    strict
        As for `torch.nn.Module.load_state_dict`: with False a checkpoint may lack tensors, those of a new head, say.

    Returns
    -------
    What `load_state_dict` returns, with `missing_keys` and `unexpected_keys`.

    Raises
    ------
    PlanError
        If a tensor of the checkpoint has another shape than the full network's.
    RuntimeError
        From torch, if the checkpoint does not fit.
    """
    plan = plan_of(model)
    if plan is not None:
        if not strict:
            plan = replace(plan, tensors={name: cut for name, cut in plan.tensors.items() if name in state_dict})
        state_dict = cut_state_dict(plan, state_dict)
    return model.load_state_dict(state_dict, strict=strict)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.data_ptr() == b.data_ptr() != 0 and a.shape == b.shape and a.stride() == b.stride())


def carry_optimizer(plan: PruningPlan, optimizer: AnyOptimizer, model: nn.Module, smaller: nn.Module) -> AnyOptimizer:
    """An optimizer of the same class for `smaller`, with the parameter groups and the cut state of `optimizer`.

    What lies in bypassed modules is left out; a group may be left empty, so that schedules still find theirs.

    Parameters
    ----------
    optimizer
        One over parameters of `model`; it is not changed.
    model, smaller
        The network before, and what `apply(plan, model)` made of it.

    Raises
    ------
    InputError
        If the optimizer holds parameters that `model` does not have, cannot be made from its parameter groups, or keeps
        a state that does not lie along its parameter (as L-BFGS does).
    """
    kind = type(optimizer).__name__
    names = {id(tensor): name for name, tensor in named_tensors(model, bypassed_modules(plan, model)).items()}
    gone = {id(tensor) for tensor in named_tensors(model).values()} - set(names) if plan.bypasses else set()
    theirs = named_tensors(smaller)
    groups: list[dict[str, Any]] = []
    state: dict[int, dict[str, Any]] = {}
    count = 0
    for group in optimizer.param_groups:
        stay = [i for i, parameter in enumerate(group["params"]) if id(parameter) not in gone]
        for parameter in (group["params"][i] for i in stay):
            if id(parameter) not in names:
                raise InputError(
                    f"the {kind} holds a parameter of shape {tuple(parameter.shape)} that is not in the model; "
                    "give the model that it was made for"
                )
            name = names[id(parameter)]
            if parameter in optimizer.state:
                cut = plan.tensors.get(name, TensorCut(tuple(parameter.shape), {}))
                own = optimizer.state[parameter]
                state[count] = {key: _cut_state(value, cut, f"{key} of {name}") for key, value in own.items()}
            count += 1
        lists = {key: [group[key][i] for i in stay] for key in ("param_names",) if key in group}
        groups.append({**group, **lists, "params": [theirs[names[id(group["params"][i])]] for i in stay]})
    fresh = _fresh(optimizer, groups)
    record = fresh.state_dict()
    record["state"] = state
    fresh.load_state_dict(record)
    return fresh


def _fresh(optimizer: AnyOptimizer, groups: list[dict[str, Any]]) -> AnyOptimizer:
    kind = type(optimizer)
    known = inspect.signature(kind).parameters
    try:
        return kind(groups, **{key: value for key, value in optimizer.defaults.items() if key in known})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{kind.__name__} cannot be made anew from its parameter groups ({error}); make one for the pruned network"
        ) from error


def _cut_state(value: Any, cut: TensorCut, what: str) -> Any:
    """Along the parameter's dimensions, where the state has them; a state of one number stays."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if value.numel() == 1:
        return value.clone()
    sizes = list(zip(value.shape, cut.shape, strict=False))
    if value.ndim != len(cut.shape) or any(n not in (1, size) for n, size in sizes):
        raise InputError(
            f"the optimizer's state {what} has shape {tuple(value.shape)}, its parameter {cut.shape}; "
            "it cannot be cut, so make a new optimizer for the pruned network"
        )
    keep = {d: kept for d, kept in cut.keep.items() if value.shape[d] > 1}
    return cut_tensor(value, TensorCut(tuple(value.shape), keep)) if keep else value.clone()


__all__ = ["carry_optimizer", "cut_state_dict"]
