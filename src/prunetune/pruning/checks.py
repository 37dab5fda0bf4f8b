"""What people get wrong first, seen before anything is trained: a sentence for each that names the cause.

What can be seen only while a model is trained is in ``watched.py``; decision 27 says what cannot be seen at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from prunetune.errors import InputError

FIXED: Final = (
    "with the same arguments in every trial, or a function of one argument `params` to get the trial's hyperparameters"
)


_MANY: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_network(model: nn.Module) -> None:
    """Raise InputError for a network that cannot be cut as it comes: wrapped, scripted, exported, or not built yet."""
    kind = type(model).__name__
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise InputError(
            f"the network is wrapped in {kind}; give the network inside, model.module, and wrap the model in the train "
            "function"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"the network is TorchScript ({kind}), whose code is closed; give the nn.Module it was made of"
        )
    if any(base.__module__.startswith("torch.export.") for base in type(model).__mro__):
        raise InputError(
            f"the network is exported ({kind} of torch.export), and the sizes of its layers stand in its code as "
            "numbers; give the nn.Module it was made of, and export the proxy"
        )
    for path, module in model.named_modules():
        if isinstance(module, LazyModuleMixin) and LazyModuleMixin.has_uninitialized_params(module):  # type: ignore[arg-type]
            raise InputError(
                f"the network's {path or 'root'!r} is a {type(module).__name__} that has not seen an input, so its "
                "shape is unknown; run the network on one batch in model_fn, before it is returned"
            )


def check_full_network(model: nn.Module) -> None:
    """As ``check_network``, for one that is to be trained many times and whose weights are to be saved."""
    check_network(model)
    if isinstance(model._modules.get("_orig_mod"), nn.Module):
        raise InputError(
            "model_fn returns a compiled network (torch.compile), which every trial would compile anew; return the "
            "network itself, and compile the model in the train function"
        )
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise InputError(
            f"model_fn returns a {type(model).__name__} on the meta device, which has shapes and no values; build it "
            "on the device that it is trained on"
        )


def pretrained_parameters(model: nn.Module, again: nn.Module) -> frozenset[str]:
    """Parameters that are the same in two networks of one ``model_fn``, and so no initialisation.

    None unless they are most of what could differ: a new head on a pretrained network is a small part; what is constant
    (ones, zeros) says nothing.
    """
    others = dict(again.named_parameters())
    drawn = equal = 0
    for name, weight in model.named_parameters():
        if weight.dim() < 2 or weight.is_meta or name not in others or bool((weight == weight.flatten()[:1]).all()):
            continue
        drawn += weight.numel()
        equal += weight.numel() * torch.equal(weight, others[name])
    if equal <= drawn / 2:
        return frozenset()
    return frozenset(
        name for name, weight in model.named_parameters() if name in others and torch.equal(weight, others[name])
    )


def check_unmasked(model: nn.Module) -> None:
    """Raise InputError for weights that ``torch.nn.utils.prune`` has masked."""
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    masked = sorted(name.removesuffix("_mask") for name in names if name.endswith("_mask"))
    for name in masked:
        if f"{name}_orig" in names:
            path, _, weight = name.rpartition(".")
            raise InputError(
                f"the network is pruned already, by torch.nn.utils.prune ({name}_mask): the mask belongs to other "
                f"weights than the new ones of each trial, and its zeros save no time; leave that out of model_fn, or "
                f"make it final there with prune.remove(model.{path or '…'}, {weight!r})"
            )


def check_inputs(example_inputs: Any) -> None:
    """Raise InputError for what holds a batch but is none."""
    if isinstance(example_inputs, DataLoader):
        raise InputError(
            "example_inputs must be one batch of inputs, and a DataLoader yields many, with targets; give "
            "next(iter(loader))[0], or whatever of that the model is called with"
        )
    if isinstance(example_inputs, np.ndarray):
        raise InputError("example_inputs must be tensors; got a numpy array: write torch.from_numpy(array)")


def takes_hyperparameters(model_fn: object) -> bool:
    """Whether it is to be called as ``model_fn(params)``: its only argument that has to be given is called so."""
    try:
        parameters = inspect.signature(model_fn).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    wanted = [each.name for each in parameters if each.default is each.empty and each.kind not in _MANY]
    return wanted == ["params"]


def check_model_fn(model_fn: object, *, alone: bool = False) -> None:
    """Raise InputError unless ``model_fn`` can be called to build the network, with hyperparameters or ``alone``."""
    if isinstance(model_fn, nn.Module) or not callable(model_fn):
        kind = type(model_fn).__name__
        raise InputError(
            f"model_fn must be a function that builds the network; got {kind}: write lambda: {kind}(…), {FIXED}"
        )
    if takes_hyperparameters(model_fn):
        if alone:
            raise InputError(
                "model_fn takes params, but there is no search here that could give any: give a function without "
                "arguments, such as lambda: model_fn({'dropout': 0.1})"
            )
        return
    if reason := _cannot_be_called(model_fn):
        name = _name(model_fn)
        raise InputError(
            f"model_fn is called without arguments, but {name} needs some ({reason}): write lambda: {name}(…), {FIXED}"
        )


def check_train(train: object, name: str = "train") -> None:
    """Raise InputError unless ``train`` can be called as ``train(model, params, report)``."""
    if not callable(train):
        raise InputError(f"{name} must be a function; got {type(train).__name__}")
    if reason := _cannot_be_called(train, None, {}, None):
        raise InputError(f"{name} is called as train(model, params, report), which {_name(train)} cannot be: {reason}")


def on_meta(model: nn.Module, example_inputs: Any) -> str:
    """Which of the two has shapes and no values: a sentence, empty if neither."""
    if any(tensor.is_meta for tensor in model.parameters()):
        return f"{type(model).__name__} is on the meta device, where weights have no values"
    if any(isinstance(leaf, torch.Tensor) and leaf.is_meta for leaf in pytree.tree_leaves(example_inputs)):
        return "the example inputs are on the meta device, where tensors have no values"
    return ""


def _cannot_be_called(function: Callable[..., object], *arguments: object) -> str:
    """Why it cannot be called with so many arguments, by its signature; empty if it can, or nobody knows."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return str(error)
    return ""


def _name(function: object) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return "it" if name == "<lambda>" else name
