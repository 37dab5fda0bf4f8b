"""Parameter groups for an optimizer: plain ones on the full network, on a proxy with a transfer rule's factors."""

from __future__ import annotations

import weakref
from typing import Any, TypeAlias

import torch
from torch import nn

from prunetune._utils.checks import real_number
from prunetune.engine import PruningPlan
from prunetune.engine.weights import Weights
from prunetune.errors import InputError, unknown_name
from prunetune.transfer import transfers
from prunetune.transfer.base import Factors, TransferRule, widths
from prunetune.transfer.kinds import OPTIMIZER_KINDS, OptimizerKind

Groups: TypeAlias = list[dict[str, Any]]
"""What torch's optimizers take: dicts with ``params``, ``lr`` and ``weight_decay``."""

MARK = "transfer"
"""The key of groups whose rates follow a rule, and its name: nobody is to correct them again."""


def plain_groups(model: nn.Module, *, lr: float, weight_decay: float, optimizer: OptimizerKind) -> Groups:
    """One group with all that is trained. Raises InputError for values that no optimizer takes."""
    lr, weight_decay = _checked(lr, weight_decay, optimizer)
    return [{"params": _trained(list(model.parameters())), "lr": lr, "weight_decay": weight_decay}]


def proxy_groups(plan: PruningPlan, transfer: str, weights: Weights) -> ProxyGroups:
    """Those of proxies that begin with such weights, by the rule of that name: what was kept is not scaled."""
    return ProxyGroups(plan, transfers[transfer], fresh=weights in ("redraw", "reset"))


class ProxyGroups:
    """The parameter groups of proxies that ``plan`` has cut, by ``rule``.

    When it is first asked for the groups of a proxy, it also scales the proxy's initial weights as the rule says, where
    these are ``fresh``: so a training that never asks is a training without any of the rule.
    """

    def __init__(self, plan: PruningPlan, rule: TransferRule, *, fresh: bool = True) -> None:
        self.plan = plan
        self.rule = rule
        self.fresh = fresh
        self._prepared: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def __call__(self, model: nn.Module, *, lr: float, weight_decay: float, optimizer: OptimizerKind) -> Groups:
        """A group for all parameters with the same factors, in the order in which they come first.

        Raises InputError for values that no optimizer takes, and for a model that is not such a proxy.
        """
        lr, weight_decay = _checked(lr, weight_decay, optimizer)
        self._check(_unwrapped(model))
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter, scale in self.factors(model, optimizer):
            groups.setdefault((scale.lr, scale.weight_decay), []).append(parameter)
        return [
            {"params": _trained(members), "lr": lr * by, "weight_decay": weight_decay * decay, MARK: self.rule.name}
            for (by, decay), members in groups.items()
            if _trained(members)
        ]

    def factors(self, model: nn.Module, optimizer: OptimizerKind) -> list[tuple[nn.Parameter, Factors]]:
        """The factors of every parameter of a proxy, whose initial weights are scaled when this is first called."""
        inner = _unwrapped(model)
        parameters = dict(inner.named_parameters())
        found = [
            (parameters[name], self.rule.scale(width, optimizer)) for name, width in widths(inner, self.plan).items()
        ]
        for parameter, scale in found:
            self._prepare(inner, parameter, scale)
        self._prepared.add(inner)
        return found

    def _check(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        for name, cut in self.plan.tensors.items():
            if name in parameters and tuple(parameters[name].shape) != cut.shape_after:
                raise InputError(
                    f"param_groups needs the proxy that the train function was given; this {type(model).__name__} has "
                    f"{name} of shape {tuple(parameters[name].shape)}, the proxy {cut.shape_after}"
                )

    def _prepare(self, model: nn.Module, parameter: nn.Parameter, scale: Factors) -> None:
        if self.fresh and scale.init != 1.0 and model not in self._prepared:
            with torch.no_grad():
                parameter.mul_(scale.init)


def _unwrapped(model: nn.Module) -> nn.Module:
    """What DataParallel and ``torch.compile`` have wrapped, which has the names that the plan knows."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def _trained(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _checked(lr: object, weight_decay: object, optimizer: str) -> tuple[float, float]:
    if optimizer not in OPTIMIZER_KINDS:
        raise unknown_name("kind of optimizer", optimizer, OPTIMIZER_KINDS)
    values = real_number("param_groups: lr", lr), real_number("param_groups: weight_decay", weight_decay)
    for name, value in zip(("lr", "weight_decay"), values, strict=True):
        if value < 0:
            raise InputError(f"param_groups: {name} is {value:g}, but it must not be negative")
    return values
