"""What stands where a residual block was: its shortcut, and the activation behind the sum."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from prunetune.engine.tracing.copies import plain_attributes
from prunetune.errors import PlanError


class Clone(nn.Module):
    """A copy of what comes in: for a shortcut whose input or output somebody changes in place later on."""

    def forward(self, input: Tensor) -> Tensor:
        return input.clone()


# What can follow the sum; the functions that compute it are in `sums.ACTIVATIONS`.
TAILS: Mapping[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "clone": Clone,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Shortcut(nn.Module):
    """tail(x): what a block that computes tail(x + f(x)) is without its branch f. Has no parameters."""

    def __init__(self, tail: str) -> None:
        super().__init__()
        self.tail = TAILS[tail]()

    def forward(self, input: Tensor) -> Tensor:
        """The stream in its own shape, whatever that is."""
        out: Tensor = self.tail(input)
        return out


class ShortcutOfMany(Shortcut):
    """A `Shortcut` for a block that is called with more than its stream; the rest is ignored.

    TorchScript knows no such functions; `torch.export`, `torch.compile` and ONNX do.
    """

    def __init__(self, tail: str, stream: str) -> None:
        super().__init__(tail)
        self.stream = stream

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The stream is the first argument, or the one of the name that it has in the block's own `forward`."""
        out: Tensor = self.tail(args[0] if args else kwargs[self.stream])
        return out


def stream_name(forward: Callable[..., Any]) -> tuple[str, bool]:
    """The name of the first argument of a module's `forward`, and whether it is the only one."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):  # compiled code
        return "", False
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in named:
        return "", False
    return parameters[0].name, len(parameters) == 1


def shortcut_of(module: nn.Module, tail: str) -> Shortcut:
    """The stand-in for a module. It has its numbers, flags and names, which the code around it may read; no tensors."""
    stream, alone = stream_name(module.forward)
    shortcut = Shortcut(tail) if alone else ShortcutOfMany(tail, stream)
    vars(shortcut).update({k: v for k, v in plain_attributes(module) if k not in vars(shortcut) and k != "tail"})
    return shortcut.train(module.training)


def enclosing(name: str, paths: Iterable[str]) -> str | None:
    """The one of several modules that a tensor or module lies in, not being it.

    >>> enclosing("layer1.0.conv1.weight", ["layer1.0", "layer2"]), enclosing("layer1.0", ["layer1.0"])
    ('layer1.0', None)
    """
    return next((path for path in paths if name.startswith(f"{path}.")), None)


def outermost(bypasses: Mapping[str, str]) -> dict[str, str]:
    """Without the blocks inside others, which go with them."""
    return {path: tail for path, tail in bypasses.items() if enclosing(path, bypasses) is None}


def check_bypasses(bypasses: Mapping[str, str], tensors: Iterable[str], attributes: Iterable[str]) -> None:
    """Raise PlanError where a plan contradicts itself."""
    for path, tail in bypasses.items():
        if tail not in TAILS:
            raise PlanError(f"the plan is broken: {path!r} has the unknown tail {tail!r}; known: {', '.join(TAILS)}")
        outer = enclosing(path, bypasses)
        if outer is not None:
            raise PlanError(f"the plan is broken: it bypasses {path}, which lies in {outer}, which it bypasses as well")
    for name in inside(bypasses, tensors, attributes):
        raise PlanError(
            f"the plan is broken: it cuts {name}, which lies in {enclosing(name, bypasses)}, which it bypasses"
        )


def inside(bypasses: Mapping[str, str], tensors: Iterable[str], attributes: Iterable[str]) -> Sequence[str]:
    """What goes with the bypassed modules; their own attributes stay, on their stand-ins."""
    if not bypasses:
        return ()
    gone = [name for name in tensors if enclosing(name, bypasses) is not None]
    return gone + [path for path in attributes if enclosing(path.rpartition(".")[0], bypasses) is not None]


__all__ = ["TAILS", "Shortcut", "ShortcutOfMany"]
