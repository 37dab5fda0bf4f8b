"""Optimizers and trial pruners by name, and the search spaces that they work on.

Importing this package is cheap: Optuna and every method are imported when they are first used. ``study`` opens a study,
``loop`` runs its trials; both know trials and hyperparameters and not what a neural network is.

An optimizer is a factory ``(seed) -> optuna.samplers.BaseSampler``, a trial pruner a factory
``(epochs) -> optuna.pruners.BasePruner``. A name without a prefix is short for Optuna's own method: ``"tpe"`` is
``"optuna:tpe"``. Another distribution adds its own with entry points of the groups ``prunetune.optimizers`` and
``prunetune.trial_pruners``, see ``examples/plugin``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from prunetune.backends.space import Categorical, Distribution, Float, Int, SearchSpace, resolve_space, spaces
from prunetune.registry import Registry

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SamplerFactory: TypeAlias = "Callable[[int], BaseSampler]"
TrialPrunerFactory: TypeAlias = "Callable[[int], BasePruner]"

optimizers: Registry[SamplerFactory] = Registry("optimizer", group="prunetune.optimizers")
trial_pruners: Registry[TrialPrunerFactory] = Registry("trial pruner", group="prunetune.trial_pruners")

for _name in ("tpe", "random"):
    for _alias in (f"optuna:{_name}", _name):
        optimizers.register_lazy(_alias, f"prunetune.backends.{_name}:{_name}")
trial_pruners.register_lazy("hyperband", "prunetune.backends.hyperband:hyperband")
trial_pruners.register_lazy("none", "prunetune.backends.none:none")


def full_name(optimizer: str) -> str:
    """The name with its prefix, so that a short name and a full one compare equal; a plugin's name is as it is.

    >>> full_name("tpe")
    'optuna:tpe'
    """
    full = f"optuna:{optimizer}"
    return full if full in optimizers else optimizer


__all__ = [
    "Categorical",
    "Distribution",
    "Float",
    "Int",
    "SamplerFactory",
    "SearchSpace",
    "TrialPrunerFactory",
    "full_name",
    "optimizers",
    "resolve_space",
    "spaces",
    "trial_pruners",
]
