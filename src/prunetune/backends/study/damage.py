"""What a study must hold that we have written, checked when it is opened: no later step meets half a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

import optuna
from optuna.trial import FrozenTrial, TrialState

from prunetune.backends.space import SearchSpace
from prunetune.backends.study.attributes import RETRY, RETRY_OF, WITHDRAWN
from prunetune.backends.study.trial import Outcome
from prunetune.errors import StorageError

Kind: TypeAlias = type | tuple[type, ...]
NOTHING: Final[Mapping[str, Kind]] = MappingProxyType({})
KINDS: Final[Mapping[str, Kind]] = {
    "outcome": str,
    "message": str,
    "traceback": str,
    "seconds": (int, float),
    "train_seconds": (int, float),
    "epochs": int,
    "seed": int,
    RETRY: int,
    RETRY_OF: int,
}
"""Of user attributes that any trial may have."""
TRAINED: Final = ("seconds", "epochs", "seed")
"""User attributes of every trial that came to its end here."""


def check_trials(study: optuna.Study, space: SearchSpace, needs: Mapping[str, Kind]) -> None:
    """Raise StorageError unless every trial of ``study`` is whole; ``needs`` are user attributes of all that count."""
    trials = study.get_trials(deepcopy=False)
    for place, trial in enumerate(trials):
        wrong = _wrong(trial, space, needs) if trial.number == place else f"it is number {place} in line"
        if not wrong and (first := trial.user_attrs.get(RETRY_OF)) is not None and not 0 <= first < place:
            wrong = f"it repeats trial {first}"
        if wrong:
            raise StorageError(
                f"the study {study.study_name!r} is damaged: trial {trial.number} is not whole ({wrong}); choose "
                "another run folder or storage"
            )


def _wrong(trial: FrozenTrial, space: SearchSpace, needs: Mapping[str, Kind]) -> str:
    """What is wrong with the trial; empty if nothing is."""
    notes = trial.user_attrs
    needs = NOTHING if _is_withdrawn(trial) else needs
    for name, kind in {**KINDS, **needs}.items():
        if (name in notes or name in needs) and not isinstance(notes.get(name), kind):
            return f"its {name} is {notes.get(name)!r}"
    if notes.get("outcome", WITHDRAWN) not in (WITHDRAWN, *get_args(Outcome)):
        return f"its outcome is {notes['outcome']!r}"
    scores = (*trial.intermediate_values.values(), *(trial.values or ()))
    if not all(isinstance(score, int | float) for score in scores):
        return f"its scores are {scores}"
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return ""  # it may have died between two of its hyperparameters
    if trial.state == TrialState.COMPLETE and len(trial.values or ()) != 1:
        return "it has no score"
    if "outcome" not in notes:  # somebody added it himself
        return ""
    missing = [name for name in TRAINED if name not in notes]
    return f"it has no {missing[0]}" if missing else _wrong_params(trial.params, space)


def _is_withdrawn(trial: FrozenTrial) -> bool:
    """Whether a worker asked for it when others had asked for enough, and has withdrawn it, or is about to, or died."""
    said = trial.user_attrs.get("outcome")
    return said == WITHDRAWN or (said is None and trial.state in (TrialState.RUNNING, TrialState.FAIL))


def _wrong_params(params: Mapping[str, Any], space: SearchSpace) -> str:
    missing: Sequence[str] = [name for name in space if name not in params]
    if missing:
        return f"it has no {missing[0]}"
    try:
        space.plain(params)
    except (ValueError, TypeError, OverflowError):
        return f"its hyperparameters are {params}"
    return ""
