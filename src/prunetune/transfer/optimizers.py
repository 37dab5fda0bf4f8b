"""Optimizers that are built for a proxy as for any network, corrected in the moment of a step."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from prunetune.errors import InputError
from prunetune.transfer.base import Factors
from prunetune.transfer.groups import MARK, ProxyGroups
from prunetune.transfer.kinds import OptimizerKind

Group: TypeAlias = dict[str, Any]
SCALED: Final = ("lr", "weight_decay")
SET: Final = "prunetune:factors"
"""The key, in a group that is stepped with, of what these were multiplied by."""


@dataclass(frozen=True)
class _Wanted:
    """What is to become of a proxy's optimizers, and who is told of the first step."""

    groups: ProxyGroups
    optimizer: OptimizerKind | None
    """The kind that they are corrected as; None for not at all."""
    told: Callable[[], None]


@dataclass
class _Known:
    """What is known of an optimizer with these parameters."""

    signature: tuple[int, ...]
    factors: dict[int, Factors]
    """By the ids of parameters."""
    own: list[Group] | None = None
    """Its own groups, while it is in a step."""
    parts: list[list[Group]] = field(default_factory=list)
    """What it steps with instead, for each of them."""


_proxies: Final[weakref.WeakKeyDictionary[nn.Module, _Wanted]] = weakref.WeakKeyDictionary()
_optimizers: Final[weakref.WeakKeyDictionary[Optimizer, _Known]] = weakref.WeakKeyDictionary()
_hooks: Final[list[Any]] = []


def correct(
    model: nn.Module, groups: ProxyGroups, optimizer: OptimizerKind, told: Callable[[], None] = lambda: None
) -> None:
    """Let every torch optimizer step with the rule's factors where it steps parameters of this proxy.

    Between steps it is as the user made it: parameter groups, learning rates, state. In a step each group is replaced
    by one for each pair of factors, with its rate and its weight decay multiplied. So schedules and logs say what they
    would on the full network. ``told`` is called at the first step. Initial weights are scaled here. Optimizers that
    Lightning or transformers build are like all others.
    """
    groups.factors(model, optimizer)
    _watch(model, _Wanted(groups, optimizer, told))


def notice(model: nn.Module, groups: ProxyGroups, told: Callable[[], None]) -> None:
    """Call ``told`` when an optimizer first steps this proxy without its parameter groups; nothing is corrected."""
    _watch(model, _Wanted(groups, None, told))


def _watch(model: nn.Module, wanted: _Wanted) -> None:
    _proxies[model] = wanted
    if not _hooks:
        _hooks.extend((register_optimizer_step_pre_hook(_before), register_optimizer_step_post_hook(_after)))


def _before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    known = _optimizers.get(optimizer)
    if known is not None:
        _put_back(optimizer, known)  # a step that raised, or one that a step of a subclass calls
    signature = tuple(id(parameter) for group in optimizer.param_groups for parameter in group["params"])
    if known is None or known.signature != signature:
        known = _optimizers[optimizer] = _Known(signature, _factors_of(optimizer, set(signature)))
    if not known.factors:
        return
    known.own = optimizer.param_groups
    known.parts = [_parts(group, known.factors) for group in known.own]
    optimizer.param_groups = [part for parts in known.parts for part in parts]


def _after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if (known := _optimizers.get(optimizer)) is not None:
        _put_back(optimizer, known)


def _factors_of(optimizer: Optimizer, ids: set[int]) -> dict[int, Factors]:
    """The factors of those of its parameters that are of proxies, and that nobody has corrected by their groups."""
    asked = {id(each) for group in optimizer.param_groups if MARK in group for each in group["params"]}
    found: dict[int, Factors] = {}
    for model, wanted in [*_proxies.items()]:
        mine = {id(each) for each in model.parameters()} & ids - asked
        if not mine:
            continue
        wanted.told()
        if wanted.optimizer is None:
            del _proxies[model]  # once is enough
            continue
        factors = {id(each): by for each, by in wanted.groups.factors(model, wanted.optimizer)}
        found |= {each: by for each, by in factors.items() if each in mine and by != Factors()}
    if found and isinstance(optimizer, LBFGS):
        raise InputError("LBFGS takes one learning rate for all parameters; set optimizers='asked' for it")
    return found


def _parts(group: Group, factors: dict[int, Factors]) -> list[Group]:
    """The group once for each pair of factors of its parameters, with its rate and weight decay multiplied."""
    if MARK in group or not isinstance(group.get("lr"), int | float | torch.Tensor):
        return [group]
    divided: dict[tuple[float, float], list[Any]] = {}
    for parameter in group["params"]:
        by = factors.get(id(parameter), Factors())
        divided.setdefault((by.lr, by.weight_decay), []).append(parameter)
    if list(divided) in ([], [(1.0, 1.0)]):
        return [group]
    return [{**group, **_scaled(group, pair), "params": part, SET: pair} for pair, part in divided.items()]


def _scaled(group: Group, by: tuple[float, float]) -> Group:
    return {name: group[name] * factor for name, factor in zip(SCALED, by, strict=True) if name in group}


def _put_back(optimizer: Optimizer, known: _Known) -> None:
    """Its own groups again, with what was changed in a step: by the optimizer, or by somebody who set a rate."""
    if known.own is None:
        return
    for group, parts in zip(known.own, known.parts, strict=True):
        if parts[0] is not group:
            _take_over(group, parts[0])
    optimizer.param_groups, known.own, known.parts = known.own, None, []


def _take_over(group: Group, part: Group) -> None:
    before = _scaled(group, part[SET])
    for name, value in part.items():
        if name not in ("params", SET) and (name not in before or not _same(value, before[name])):
            group[name] = value


def _same(value: Any, other: Any) -> bool:
    return bool(value == other)
