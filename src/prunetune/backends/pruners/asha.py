"""Asynchronous successive halving (Li et al. 2020): Hyperband's first bracket alone, the one that stops most."""

from __future__ import annotations

from optuna.pruners import SuccessiveHalvingPruner

from prunetune._utils.checks import whole_number
from prunetune.backends.pruners.rungs import MIN_EPOCHS, Rungs, powers_below, reduction_factor


class Asha(SuccessiveHalvingPruner):
    """Optuna's, of epochs from 1 on; ``rungs`` says what it does."""

    def __init__(self, epochs: int) -> None:
        whole_number("epochs", epochs, minimum=1)
        factor = reduction_factor(epochs)
        self.rungs = Rungs(factor, (powers_below(epochs, factor),), epochs, (1.0,))
        super().__init__(min_resource=MIN_EPOCHS, reduction_factor=factor)


def asha(epochs: int) -> Asha:
    """Successive halving: only the best third of trials goes on at epochs 1, 3, 9, …, the same for all trials."""
    return Asha(epochs)
