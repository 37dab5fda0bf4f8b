"""Random search (Bergstra & Bengio 2012): every trial independent of all others."""

from __future__ import annotations

from optuna.samplers import RandomSampler


def random(seed: int) -> RandomSampler:
    """Every value drawn from its distribution, independent of all trials before."""
    return RandomSampler(seed=seed)
