"""Tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's: random for ten trials, then two densities."""

from __future__ import annotations

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from prunetune._utils.quiet import quietly


def tpe(seed: int) -> TPESampler:
    """Two densities, of where scores are good and of where they are not; random for the first ten trials.

    From Optuna 5 on the densities are of all hyperparameters together, so that `optuna:tpe-multivariate` is the same
    unless some are conditional.

    It ranks scores and never uses their size, so a score of ±inf is the worst.
    """
    return TPESampler(seed=seed)


def tpe_multivariate(seed: int) -> TPESampler:
    """TPE with densities of all hyperparameters together; conditional ones in a group of their own."""
    with quietly(ExperimentalWarning):
        return TPESampler(seed=seed, multivariate=True, group=True)
