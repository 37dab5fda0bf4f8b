"""The proxy for those who search by themselves: a function that builds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from prunetune.engine import ExampleInputs, PruningPlan, fresh_proxy
from prunetune.errors import warn_caller
from prunetune.pruning.checks import check_full_network, check_model_fn, check_unmasked, pretrained_parameters
from prunetune.pruning.cut import prune
from prunetune.pruning.result import PruneResult
from prunetune.transfer.groups import ProxyGroups, proxy_groups
from prunetune.transfer.norms import norms_for
from prunetune.transfer.optimizers import correct, notice
from prunetune.tuning.recovered import recovered
from prunetune.tuning.settings import Pruning
from prunetune.tuning.types import ModelFunction

if TYPE_CHECKING:
    from prunetune.plugins.base import Batch, Loss


@dataclass(frozen=True)
class ScoringData:
    """What a scorer may need besides the network: batches of inputs and targets, and a loss."""

    data: Iterable[Batch] | None = None
    loss: Loss | None = None

    def arguments(self) -> dict[str, Any]:
        """Those that were given, for ``prune``."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class ProxyFactory:
    """Builds a fresh proxy at each call, as ``model_fn`` builds the full network."""

    model_fn: ModelFunction
    result: PruneResult
    """What was cut, and what that saves."""
    pruning: Pruning
    example_inputs: ExampleInputs
    seed: int = 0

    @property
    def plan(self) -> PruningPlan:
        """What is cut where."""
        return self.result.plan

    def __call__(self) -> nn.Module:
        """A new proxy, with weights drawn under the present random state."""
        proxy = fresh_proxy(self.model_fn, self.plan, weights=self.pruning.begins, recovered=self._recovered)
        if self.pruning.optimizers != "asked":
            correct(proxy, self.groups, self.pruning.optimizers)
        elif self.pruning.transfer != "identity":
            notice(proxy, self.groups, _warn)
        return proxy

    def param_groups(
        self, proxy: nn.Module, *, lr: float, weight_decay: float = 0.0, optimizer: Literal["sgd", "adam"] = "sgd"
    ) -> list[dict[str, Any]]:
        """What an optimizer takes instead of ``proxy.parameters()``, see ``Report.param_groups``.

        On the full network the optimizer gets ``model.parameters()``, and the same hyperparameters.
        """
        return self.groups(proxy, lr=lr, weight_decay=weight_decay, optimizer=optimizer)

    @cached_property
    def groups(self) -> ProxyGroups:
        """The groups of these proxies by ``pruning.transfer``."""
        return proxy_groups(self.plan, self.pruning.transfer, self.pruning.begins)

    @cached_property
    def _recovered(self) -> Mapping[str, torch.Tensor] | None:
        if self.pruning.weights != "recovered":
            return None
        return recovered(self.model_fn, self.plan, self.example_inputs, self.seed).tensors


def _warn() -> None:
    warn_caller(
        "nothing corrects the learning rate of this proxy's optimizer for the proxy's width: say "
        "Pruning(optimizers='sgd') or 'adam', whichever it is, build it with param_groups(model, lr=…), or say "
        "Pruning(transfer='identity')"
    )


def proxy_of(
    model_fn: ModelFunction,
    example_inputs: ExampleInputs,
    pruning: Pruning = Pruning(),  # noqa: B008  # frozen
    *,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
) -> ProxyFactory:
    """A function that builds fresh proxies of what ``model_fn`` builds; it is cut once, here.

    The state of torch's random generator is as before. ``prunetune.prune`` says what raises.

    Parameters
    ----------
    model_fn, example_inputs, pruning
        As for ``prunetune.tune``.
    seed, data, loss
        As for ``prunetune.prune``.

    Example
    -------
    In an objective of your own two lines change::

        pruning = prunetune.Pruning(optimizers="sgd")  # which the objective trains with
        build_proxy = prunetune.proxy_of(MyNet, torch.zeros(64, 3, 32, 32), pruning)  # before the objective
        model = build_proxy()  # in it, where it was MyNet()
    """
    check_model_fn(model_fn, alone=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = model_fn()
        if isinstance(base, nn.Module):
            check_full_network(base)
            if pruning.weights is None:
                pruning = pruning.for_network(pretrained=bool(pretrained_parameters(base, model_fn())))
            if pruning.weights != "sliced":
                check_unmasked(base)
        scoring = ScoringData(data, loss).arguments()
        result = prune(base, example_inputs, **pruning.arguments(), **scoring, seed=seed)
        result = result.with_norms(norms_for(pruning.transfer, base, example_inputs))
    return ProxyFactory(model_fn, result, pruning, example_inputs, seed)
