"""Hyperband (Li et al. 2018) in Optuna's asynchronous form: at certain epochs only the best third of trials goes on."""

from __future__ import annotations

import math

from optuna.pruners import HyperbandPruner

from prunetune._utils.checks import whole_number
from prunetune.backends.pruners.rungs import MIN_EPOCHS, Rungs, bracket_count, powers_below, reduction_factor, shares


def describe(epochs: int) -> Rungs:
    """The rungs of a search whose trials have ``epochs`` epochs.

    The last epoch is no rung: a trial that has come so far has cost all that it can.

    >>> describe(9).brackets
    ((1, 3), (3,), ())
    >>> print(describe(5))
    2 brackets, in which the best third continues: after epochs 1, 3; after epoch 3
    """
    whole_number("epochs", epochs, minimum=1)
    factor = reduction_factor(epochs)
    rungs = powers_below(epochs, factor)
    brackets = range(bracket_count(epochs, factor))
    halvings = [len(brackets) - 1 - bracket for bracket in brackets]
    sizes = [math.ceil(len(brackets) * factor**s / (s + 1)) for s in halvings]  # n of algorithm 1, as Optuna rounds it
    return Rungs(factor, tuple(rungs[bracket:] for bracket in brackets), epochs, shares(sizes))


class Hyperband(HyperbandPruner):
    """Optuna's, of epochs from 1 on; ``rungs`` says what it does."""

    def __init__(self, epochs: int) -> None:
        self.rungs = describe(epochs)
        super().__init__(min_resource=MIN_EPOCHS, max_resource=epochs, reduction_factor=self.rungs.reduction_factor)


def hyperband(epochs: int) -> Hyperband:
    """Only the best third of trials goes on at certain epochs, 1 to ``epochs``, which differ from bracket to bracket.

    Which bracket a trial is in is a hash of the study's name and the trial's number, so the name must stay the same.
    """
    return Hyperband(epochs)
