"""Code of one's own by its name, ``module:function``, and batches by their shapes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from prunetune.errors import InputError


def imported(name: str, what: str, example: str = "torchvision.models:resnet18") -> Any:
    """What ``module:function`` names; modules in the current folder are found, too. ``what`` is named in errors.

    Raises InputError for a name of another form, and where there is no such thing.
    """
    module, colon, path = name.partition(":")
    if not module or not colon or not path:
        raise InputError(f"{what} is {name!r}, but it must be module:function, for example {example}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises
        raise InputError(f"{name}: {module} cannot be imported ({type(error).__name__}: {error})") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{name}: {module} has no {path!r}")
        found = getattr(found, part)
    return found


def network(name: str) -> nn.Module:
    """What ``module:function`` builds, called without arguments; or the network that it is."""
    found = imported(name, "the model")
    model = found if isinstance(found, nn.Module) else _called(found, name, "builds the network")
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} must return a torch.nn.Module; it returned {type(model).__name__}")
    return model


def batch(inputs: str | tuple[str, ...]) -> Any:
    """One batch as a network takes it: what ``module:function`` gives, or tensors of these shapes."""
    if isinstance(inputs, str):
        found = imported(inputs, "model.inputs", "my_project:example_inputs")
        return _called(found, inputs, "gives one batch") if callable(found) else found
    tensors = tuple(example_input(text, "model.inputs") for text in inputs)
    return tensors if len(tensors) > 1 else tensors[0]


def example_input(text: str, what: str = "--input") -> torch.Tensor:
    """A tensor of the shape and number format in ``1,3,224,224`` or ``2,128:int64``; ones, which are valid for both.

    >>> example_input("2,3:int64").tolist()
    [[1, 1, 1], [1, 1, 1]]
    """
    sizes, _, kind = text.partition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    dtype = getattr(torch, kind or "float32", None)
    if not shape or min(shape) < 1 or not isinstance(dtype, torch.dtype):
        raise InputError(f"{what} is {text!r}, but it must be a shape such as 1,3,224,224, or 2,128:int64 for indices")
    return torch.ones(shape, dtype=dtype)


def _called(function: Any, name: str, does: str) -> Any:
    if not callable(function):
        raise InputError(f"{name} must be a function that {does}; got {type(function).__name__}")
    make: Callable[[], Any] = function
    try:
        return make()
    except Exception as error:
        raise InputError(
            f"{name}() failed ({type(error).__name__}: {error}); it is called without arguments"
        ) from error
