"""The median rule (Golovin et al. 2017, "Google Vizier"): stop what is worse than half of the trials before it."""

from __future__ import annotations

from typing import Final

from optuna.pruners import MedianPruner

from prunetune._utils.checks import whole_number

COMPLETE_FIRST: Final = 5


class Median(MedianPruner):
    """Optuna's, which may stop a trial after any epoch."""

    def __init__(self, epochs: int) -> None:
        whole_number("epochs", epochs, minimum=1)
        self._epochs = epochs
        super().__init__(n_startup_trials=COMPLETE_FIRST)

    def note(self, n_trials: int) -> str:
        """What it does in a search of so many trials."""
        if n_trials <= COMPLETE_FIRST or self._epochs == 1:
            return (
                f"median stops none of {n_trials} trials of {self._epochs} epochs: it needs {COMPLETE_FIRST} complete "
                "trials to compare with, and an epoch that could be saved"
            )
        return (
            f"median: after {COMPLETE_FIRST} complete trials, stops a trial after any epoch of {self._epochs} at which "
            "its best score so far is worse than the median of the others'"
        )


def median(epochs: int) -> Median:
    """A trial stops when its best score so far is worse than the median of the others' after as many epochs."""
    return Median(epochs)
