"""The table from a torch function to its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.nn import functional

from prunetune.engine.rules.context import Rule
from prunetune.errors import InputError

rules: dict[Any, Rule] = {}


def functions(*names: str) -> list[Any]:
    """All torch functions of these names: `torch.x`, `torch.Tensor.x`, `torch.nn.functional.x`, and in place."""
    found: list[Any] = []
    for name in names:
        for place in (torch, torch.Tensor, functional, torch._C._nn, torch.special, torch.linalg):
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


F = TypeVar("F", bound=Rule)


def rule(*targets: Any) -> Callable[[F], F]:
    """Register the rule of these functions.

    A string stands for all torch functions of that name, or with `::` for a custom operator (`"torchvision::nms"`),
    whose library need not be installed. Raises InputError if a function has a rule already.
    """

    def register(function: F) -> F:
        for target in targets:
            named = isinstance(target, str) and "::" not in target
            for key in functions(target) if named else [target]:
                if rules.setdefault(key, function) is not function:
                    raise InputError(f"{key!r} has a rule already")
        return function

    return register
