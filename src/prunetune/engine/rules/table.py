"""The table from a torch function to its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

from prunetune.engine.rules.context import Rule
from prunetune.errors import InputError

rules: dict[Any, Rule] = {}


def functions(*names: str) -> list[Any]:
    """All torch functions of these names: `torch.x`, `torch.Tensor.x`, `torch.nn.functional.x`, and in place."""
    found: list[Any] = []
    for name in names:
        for place in (torch, torch.Tensor, functional, torch._C._nn, torch.special, torch.linalg, torch.fft):
            for variant in (name, f"{name}_"):
                function = getattr(place, variant, None)
                if callable(function) and function not in found:
                    found.append(function)
    if not found:
        raise InputError(f"torch has no function of the names {names}")
    return found


def rule_of(target: Any) -> Rule | None:
    """The rule of a function that was called, if there is one; custom operators are known by their full name."""
    found = rules.get(target)
    if found is None and isinstance(target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        packet = target.overloadpacket if isinstance(target, torch._ops.OpOverload) else target
        found = rules.get(packet._qualified_op_name)
    return found


def rule_of_module(kind: type[nn.Module]) -> Rule | None:
    """The rule of a class of modules, or of the nearest class it is derived from."""
    return next((rules[c] for c in kind.__mro__ if c in rules), None)


F = TypeVar("F", bound=Rule)


def rule(*targets: Any, replace: bool = False) -> Callable[[F], F]:
    """Register the rule of these functions, or of these classes of modules.

    Parameters
    ----------
    targets
        Functions that torch dispatches; a string stands for all torch functions of that name, or with `::` for a custom
        operator (`"torchvision::nms"`), whose library need not be installed. A class of modules (and its subclasses)
        becomes one node, and nothing inside is looked at: the rule is called with the arguments of `forward`, and finds
        the module's tensors by `context.parameter("weight")`.
    replace
        Take the place of a rule that is there already.

    Raises
    ------
    InputError
        If there is a rule already, or torch has no function of that name.

    Example
    -------
    A layer that torch runs by a kernel of its own, x (..., I) times its weight (I, O):

    >>> from torch import nn
    >>> class Fast(nn.Module): ...
    >>> @rule(Fast)
    ... def fast(context, x):
    ...     weight = context.parameter("weight")
    ...     context.bind(weight, 0, context.vec(x, -1))  # cut as the last dimension of what comes in
    ...     channels = context.produce(weight, 1)  # these can be removed
    ...     return context.result([*context.vecs(x)[:-1], channels])
    >>> del rules[Fast]
    """

    def register(function: F) -> F:
        for target in targets:
            named = isinstance(target, str) and "::" not in target
            for key in functions(target) if named else [target]:
                if replace:
                    rules[key] = function
                elif rules.setdefault(key, function) is not function:
                    raise InputError(f"{key!r} has a rule already; replace=True takes its place")
        return function

    return register
