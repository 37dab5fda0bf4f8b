"""Commands that need no run: cut a network of one's own, begin a configuration, write a report again."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prunetune.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from prunetune.pruned import PruneResult

TEMPLATE: Final = "run.toml"  # in this package


@dataclass(frozen=True)
class Asked:
    """What ``prunetune prune`` was asked for, as the command line has it."""

    model: str
    inputs: tuple[str, ...]
    options: dict[str, Any]
    """Arguments of ``prunetune.prune``; None: not given."""


def cut(asked: Asked) -> PruneResult:
    """The network cut as asked; raises InputError for what cannot be imported, read or cut."""
    from prunetune.pruning import prune

    model = build(asked.model)
    inputs = tuple(example_input(text) for text in asked.inputs)
    if not inputs:
        raise InputError("which input? give the shape of one batch, for example --input 1,3,224,224")
    options = {name: value for name, value in asked.options.items() if value is not None}
    return prune(model, inputs if len(inputs) > 1 else inputs[0], **options)


def build(name: str) -> nn.Module:
    """What ``module:function`` builds, called without arguments; modules in the current folder are found, too."""
    from torch import nn

    module, colon, path = name.partition(":")
    if not module or not colon or not path:
        raise InputError(
            f"the model is {name!r}, but it must be module:function, for example torchvision.models:resnet18"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    found: Any = _imported(module, name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{name}: {module} has no {path!r}")
        found = getattr(found, part)
    model = _called(found, name)
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} must return a torch.nn.Module; it returned {type(model).__name__}")
    return model


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises
        raise InputError(f"{name}: {module} cannot be imported ({type(error).__name__}: {error})") from error


def _called(function: Any, name: str) -> Any:
    from torch import nn

    if isinstance(function, nn.Module):
        return function
    if not callable(function):
        raise InputError(f"{name} must be a function that builds the network; got {type(function).__name__}")
    make: Callable[[], Any] = function
    try:
        return make()
    except Exception as error:
        raise InputError(
            f"{name}() failed ({type(error).__name__}: {error}); it is called without arguments"
        ) from error


def example_input(text: str) -> torch.Tensor:
    """A tensor of the shape and number format in ``1,3,224,224`` or ``2,128:int64``; ones, which are valid for both.

    >>> example_input("2,3:int64").tolist()
    [[1, 1, 1], [1, 1, 1]]
    """
    import torch

    sizes, _, kind = text.partition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    dtype = getattr(torch, kind or "float32", None)
    if not shape or min(shape) < 1 or not isinstance(dtype, torch.dtype):
        raise InputError(f"--input is {text!r}, but it must be a shape such as 1,3,224,224, or 2,128:int64 for indices")
    return torch.ones(shape, dtype=dtype)


def as_json(result: PruneResult) -> str:
    """What was cut and what that saves, for machines."""
    return json.dumps(
        {
            "cost": {"base": asdict(result.cost.base), "proxy": asdict(result.cost.proxy)},
            "layers": [asdict(layer) for layer in result.layers],
            "groups": [asdict(group) for group in result.groups],
            "bypassed": list(result.bypassed),
            "frozen": [{"node": each.node, "reason": each.reason, "channels": each.channels} for each in result.frozen],
            "measurements": [{**asdict(each), "speedup": each.speedup} for each in result.measurements],
            "seconds": result.seconds,
        },
        indent=1,
    )


def write_template(path: Path) -> None:
    """A configuration with every key and what it means. Raises InputError rather than overwrite anything."""
    if path.exists():
        raise InputError(f"{path} exists already; name another file, or remove it first")
    try:
        path.write_text((files("prunetune") / TEMPLATE).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error})") from error
