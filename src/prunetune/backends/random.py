"""Random search (Bergstra & Bengio 2012): every trial independent of all others."""

from __future__ import annotations

from optuna.samplers import RandomSampler


def random(seed: int) -> RandomSampler:
    """A sampler that draws every value from its distribution."""
    return RandomSampler(seed=seed)
