"""Optimizers that are built for a proxy as for any network, corrected as the proxy's transfer rule says."""

from __future__ import annotations

import weakref
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from prunetune.errors import InputError
from prunetune.transfer.base import Factors, OptimizerKind
from prunetune.transfer.groups import ProxyGroups

MARK: Final = "prunetune"
"""The key of a corrected parameter group: factors of its learning rate and its weight decay."""


@dataclass(frozen=True)
class _Corrected:
    """What becomes of a parameter when an optimizer is built for it, and who is told."""

    factors: Factors
    told: Callable[[], None]
    groups: ProxyGroups
    """Of which somebody may have asked for; these are corrected already."""


_known: Final[MutableMapping[torch.Tensor, _Corrected]] = WeakIdKeyDictionary()
_plain: Final[weakref.WeakKeyDictionary[Optimizer, list[dict[str, Any]]]] = weakref.WeakKeyDictionary()
"""Of optimizers that are corrected: what their groups had before the step that they are in the middle of."""


def correct(
    model: nn.Module, groups: ProxyGroups, optimizer: OptimizerKind, told: Callable[[], None] = lambda: None
) -> None:
    """Let every torch optimizer that is built for parameters of this proxy take the rule's factors.

    Parameter groups are divided by factors. Their learning rates stay as they were given, so that schedules and logs
    say what they would on the full network; only while the optimizer makes a step they are multiplied. ``told`` is
    called when an optimizer is built. Initial weights are scaled here. Lightning and the trainer of transformers build
    theirs like everybody else.
    """
    _see_optimizers()
    for parameter, factors in groups.factors(model, optimizer):
        _known[parameter] = _Corrected(factors, told, groups)


def notice(model: nn.Module, groups: ProxyGroups, told: Callable[[], None]) -> None:
    """Call ``told`` when an optimizer is built for this proxy without its parameter groups; nothing is corrected."""
    _see_optimizers()
    for parameter in model.parameters():
        _known[parameter] = _Corrected(Factors(), told, groups)


def _see_optimizers() -> None:
    """Divide groups where torch's optimizers are given them, once for this process."""
    add = Optimizer.add_param_group
    if hasattr(add, MARK):
        return

    @wraps(add)
    def add_divided(self: Optimizer, param_group: dict[str, Any]) -> None:
        for part in _divided(self, param_group):
            add(self, part)

    setattr(add_divided, MARK, True)
    Optimizer.add_param_group = add_divided  # type: ignore[method-assign]


def _divided(optimizer: Optimizer, group: dict[str, Any]) -> list[dict[str, Any]]:
    given = group.get("params") if isinstance(group, dict) else None
    if given is None or MARK in group:
        return [group]
    members = [given] if isinstance(given, torch.Tensor) else list(given)
    group = {**group, "params": members}
    parameters = [each[1] if isinstance(each, tuple) else each for each in members]
    known = [_known.get(each) for each in parameters]
    pairs = zip(parameters, known, strict=True)
    found = [each for parameter, each in pairs if each is not None and parameter not in each.groups.given]
    if not found:
        return [group]
    for told in {each.told for each in found}:
        told()
    if all(each.factors == Factors() for each in found):
        return [group]
    if isinstance(optimizer, LBFGS):
        raise InputError("LBFGS takes one learning rate for all parameters; set optimizers='asked' for it")
    parts: dict[tuple[float, float], list[Any]] = {}
    for member, each in zip(members, known, strict=True):
        factors = Factors() if each is None else each.factors
        parts.setdefault((factors.lr, factors.weight_decay), []).append(member)
    if optimizer not in _plain:
        _plain[optimizer] = []
        optimizer.register_step_pre_hook(_scale)
        optimizer.register_step_post_hook(_restore)
    return [{**group, "params": part, MARK: by} for by, part in parts.items()]


def _scale(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    _restore(optimizer)  # a step that raised has left them as they were in it
    for group in optimizer.param_groups:
        lr, decay = group.get(MARK, (1.0, 1.0))
        factors = {"lr": lr, "weight_decay": decay}
        _plain[optimizer].append({name: group[name] for name in factors if name in group})
        group.update({name: group[name] * by for name, by in factors.items() if name in group})


def _restore(optimizer: Optimizer, *_: Any) -> None:
    for group, before in zip(optimizer.param_groups, _plain[optimizer], strict=False):
        group.update(before)
    _plain[optimizer] = []
