"""What the user should know of a search before it begins: what the trial pruner will do, and who learns from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from optuna.pruners import BasePruner, NopPruner
from optuna.study import StudyDirection

from prunetune.backends.given import PREFIX, Given
from prunetune.backends.pruners.rungs import Rungs
from prunetune.backends.samplers.finite import size
from prunetune.backends.samplers.stateless import STARTUP

if TYPE_CHECKING:
    from optuna.study import Study

    from prunetune.backends.study.study import StudySettings

FEW: Final = 1.0
"""A trial pruner that is expected to stop fewer trials might as well not be there."""

SCORED: Final = 6  # trials with two reports that it takes to say whether training makes scores better
NEARLY_ALL: Final = 0.9


def study_notes(study: Study, settings: StudySettings, n_trials: int) -> tuple[str, ...]:
    """Sentences about a search of so many trials, the trial pruner's first; none where there is nothing to say.

    A sampler or a trial pruner says what there is to say by an attribute: ``rungs``, ``note``, ``stops_few``, and
    ``learns_from_stopped``, which is taken to be true where it is missing.
    """
    sampler, pruner = study.sampler, study.pruner
    found = [_of_trial_pruner(pruner, settings, n_trials)]
    points = size(settings.space.to_optuna())
    if points is not None and points < n_trials:
        found.append(f"the space has {points} configurations in all, fewer than {n_trials} trials: each is tried once")
    given = [
        name.removeprefix(PREFIX) for name in (settings.optimizer, settings.trial_pruner) if isinstance(name, Given)
    ]
    if given:
        found.append(
            f"{' and '.join(given)}: an object's random state is not kept, so after a stop the search continues "
            "differently; with names it continues exactly"
        )
    if hasattr(sampler, "note") and (text := sampler.note(settings.space.to_optuna(), n_trials)):
        found.append(f"{settings.optimizer}: {text}")
    stops_few = isinstance(pruner, NopPruner) or getattr(pruner, "stops_few", False)
    if not stops_few and not getattr(sampler, "learns_from_stopped", True):
        rungs = getattr(pruner, "rungs", None)
        found.append(combination_warning(settings.optimizer, settings.trial_pruner, rungs, n_trials))
    return tuple(note for note in found if note)


def direction_warning(study: Study) -> str:
    """Whether scores get worse by training in nearly all trials: then they may be losses, or the direction is wrong.

    If training changed nothing, so that every trial's scores rose or fell by chance, ``SCORED`` trials would all fall
    once in 2**SCORED searches.
    """
    curves = [list(trial.intermediate_values.values()) for trial in study.get_trials(deepcopy=False)]
    changes = [curve[-1] - curve[0] for curve in curves if len(curve) > 1 and math.isfinite(curve[-1] - curve[0])]
    maximize = study.direction == StudyDirection.MAXIMIZE
    worse = sum(change < 0 if maximize else change > 0 for change in changes)
    if len(changes) < SCORED or worse < NEARLY_ALL * len(changes):
        return ""
    falls, other, returns = ("fall", "minimize", "a loss") if maximize else ("rise", "maximize", "an accuracy")
    return (
        f"warning: in {worse} of {len(changes)} trials the scores {falls} from the first report to the last, though "
        f"direction is {'maximize' if maximize else 'minimize'!r}; if the train function returns {returns}, search "
        f"with direction={other!r}"
    )


def _of_trial_pruner(pruner: BasePruner, settings: StudySettings, n_trials: int) -> str:
    name = settings.trial_pruner
    if hasattr(pruner, "note"):
        return str(pruner.note(n_trials))
    rungs: Rungs | None = getattr(pruner, "rungs", None)
    if rungs is None:
        return ""
    if rungs.epochs == 1:
        return ""  # there is no epoch to save, and nothing that anybody could do about it
    if n_trials - rungs.expected_complete(n_trials) < FEW:
        trials = (
            f"{n_trials} trials of {rungs.epochs} epochs" if n_trials > 1 else f"one trial of {rungs.epochs} epochs"
        )
        why = "the best so far in a bracket always goes on"
        return f"{name} stops hardly any of {trials}, because {why}" if n_trials > 1 else f"{name} cannot stop {trials}"
    expected = rungs.expected_epochs(n_trials)
    return f"{name}: {rungs}; about {expected:.3g} of {rungs.epochs} epochs a trial"


def combination_warning(optimizer: str, trial_pruner: str, rungs: Rungs | None, n_trials: int) -> str:
    """What an optimizer that learns from complete trials only has to learn from beside a trial pruner."""
    few = "few trials"
    if rungs is not None:
        complete = rungs.expected_complete(n_trials)
        few = f"about {complete:.0f} of {n_trials} trials"
        if complete < STARTUP:
            few += f", fewer than the {STARTUP} that it draws at random first"
    return (
        f"warning: {optimizer} learns from complete trials only, and {trial_pruner} leaves it {few}; take the trial "
        "pruner 'none', or 'bo' (skopt:gp) or 'tpe', which learn from stopped trials too"
    )
