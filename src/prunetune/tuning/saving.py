"""Whether a search on the proxy pays: foreseen before it begins, and measured when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prunetune.backends.pruners.rungs import Rungs
from prunetune.backends.study.study import trial_pruner
from prunetune.tuning.confirmations import AUTO_LIMIT

if TYPE_CHECKING:
    from prunetune.tuning.settings import Search, Settings

CHEAPER: Final = 1.2
"""A proxy on which trials are not so many times cheaper is not worth its errors."""
WORTHWHILE: Final = 1 / CHEAPER
"""A trial that costs a larger share of a full training is not worth the errors of its proxy."""


CUSTOMARY_TRIALS: Final = 50
"""Of the customary search: Optuna's TPE with Hyperband on the full network."""


def customary_trainings(epochs: int) -> float:
    """About how many full trainings the customary search takes, its winner's own included."""
    rungs: Rungs = trial_pruner("hyperband", epochs).rungs  # type: ignore[attr-defined]
    stopped = rungs.expected_epochs(CUSTOMARY_TRIALS) / epochs
    return CUSTOMARY_TRIALS * stopped + 1


def full_trainings(search: Search) -> int:
    """So many trainings of the full network follow a search; "auto" is taken to be the most that it may be."""
    confirmations = AUTO_LIMIT if search.confirmed == "auto" else max(1, search.confirmed)
    return min(confirmations, search.trials) + search.refine


def will_not_pay(settings: Settings, trial: float) -> str:
    """What to know before a search that is not expected to pay, and what would help; empty for one that is.

    ``trial`` is what a whole trial is predicted to cost, as a share of a full training. Who searches on the full
    network itself (``ratio=1``) is told nothing.
    """
    if settings.pruning.ratio == 1:
        return ""
    search, study = settings.search, settings.study()
    rungs = getattr(trial_pruner(study.trial_pruner, study.epochs), "rungs", None)
    stopped = 1.0 if rungs is None else rungs.expected_epochs(search.trials, form=search.rungs) / study.epochs
    plain, after = search.trials * stopped, full_trainings(search)
    if trial <= WORTHWHILE and trial * plain + after < plain:
        return ""
    if trial > WORTHWHILE:
        advice = (
            "a smaller proxy (pruning.percentile, or pruning.flops = 0.1), fewer epochs a trial (fidelity.epochs = 0.5)"
            " or larger batches, if a step's time is mostly overhead, would help; or search on the full network "
            "(pruning.ratio = 1)"
        )
    else:
        advice = "more trials or fewer trainings after them (confirm, refine) would help; or search on the full network"
    return (
        f"warning: this search is not expected to pay: a trial on the proxy is predicted to cost {trial:.2g} of a full "
        f"training, so the search takes the time of about {trial * plain:.3g} full trainings and what follows that of "
        f"{'up to ' if search.race or search.confirmed == 'auto' else ''}{after}, where the same search on the full "
        f"network takes that of about {plain:.3g}; {advice}"
    )
