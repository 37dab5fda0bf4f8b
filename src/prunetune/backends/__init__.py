"""Optimizers and trial pruners by name, and the search spaces that they work on.

Importing this package is cheap: Optuna and every method are imported when they are first used. ``study`` opens a study,
``loop`` runs its trials; both know trials and hyperparameters and not what a neural network is.

An optimizer is a factory ``(seed) -> optuna.samplers.BaseSampler``, a trial pruner a factory
``(epochs) -> optuna.pruners.BasePruner``. The prefix of a name is the library; ``ALIASES`` has the short names. Another
distribution adds its own with entry points of the groups ``prunetune.optimizers`` and ``prunetune.trial_pruners``, see
``examples/plugin``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from prunetune.backends.space import Categorical, Distribution, Float, Int, SearchSpace, resolve_space, spaces
from prunetune.registry import Registry

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SamplerFactory: TypeAlias = "Callable[[int], BaseSampler]"
TrialPrunerFactory: TypeAlias = "Callable[[int], BasePruner]"

optimizers: Registry[SamplerFactory] = Registry("optimizer", group="prunetune.optimizers")
trial_pruners: Registry[TrialPrunerFactory] = Registry("trial pruner", group="prunetune.trial_pruners")

ALIASES: Final[Mapping[str, str]] = {
    "tpe": "optuna:tpe",
    "random": "optuna:random",
    "cma-es": "nevergrad:cma",
    "bo": "skopt:gp",  # the paper's; Optuna's Gaussian process learns nothing from trials that were stopped
}
"""The paper's names (Lee & Yim 2022, section 5) for what it used."""

_OPTIMIZERS: Final[Mapping[str, str]] = {
    "optuna:tpe": "tpe:tpe",
    "optuna:tpe-multivariate": "tpe:tpe_multivariate",
    "optuna:random": "random:random",
    "optuna:cmaes": "cmaes:cmaes",
    "optuna:gp": "gp:gp",
    "optuna:qmc": "qmc:qmc",
    "optuna:grid": "grid:grid",
    "nevergrad:cma": "nevergrad:CMA",
    "skopt:gp": "skopt:gp",
    "skopt:forest": "skopt:forest",
    "skopt:et": "skopt:et",
}
# These work, are reproducible, and repeat no point, as the discrete ones do.
_NEVERGRADS: Final = ("DE", "DiagonalCMA", "LhsDE", "NGOpt", "OldCMA", "OnePlusOne", "PSO", "TBPSA", "TwoPointsDE")

for _name, _place in _OPTIMIZERS.items():
    optimizers.register_lazy(_name, f"prunetune.backends.samplers.{_place}")
for _name in _NEVERGRADS:
    optimizers.register_lazy(f"nevergrad:{_name}", f"prunetune.backends.samplers.nevergrad:{_name}")
for _name, _full in ALIASES.items():
    optimizers.register_lazy(_name, f"prunetune.backends.samplers.{_OPTIMIZERS[_full]}")
for _name in ("asha", "hyperband", "median", "none"):
    trial_pruners.register_lazy(_name, f"prunetune.backends.pruners.{_name}:{_name}")


def full_name(optimizer: str) -> str:
    """The name with its prefix, so that a short name and a full one compare equal; a plugin's name is as it is.

    >>> full_name("tpe")
    'optuna:tpe'
    """
    return ALIASES.get(optimizer, optimizer)


def check_optimizer(name: str) -> None:
    """Raise InputError for what cannot be used: an unknown name, a missing library, what its library has broken."""
    from prunetune.backends.samplers.seeded import sampler  # loads Optuna, and names are listed without

    sampler(name, seed=0)


__all__ = [
    "ALIASES",
    "Categorical",
    "Distribution",
    "Float",
    "Int",
    "SamplerFactory",
    "SearchSpace",
    "TrialPrunerFactory",
    "check_optimizer",
    "full_name",
    "optimizers",
    "resolve_space",
    "spaces",
    "trial_pruners",
]
