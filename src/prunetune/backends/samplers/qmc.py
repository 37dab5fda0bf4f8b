"""Quasi-random search: a Sobol sequence, which fills the space more evenly than random points do."""

from __future__ import annotations

from prunetune.backends.samplers.stateless import SobolSampler


def qmc(seed: int) -> SobolSampler:
    """A scrambled Sobol sequence: like random points, more evenly spread."""
    return SobolSampler(seed)
