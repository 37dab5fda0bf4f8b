"""A study in a storage: opened or created, checked to be the same search, cleared of what a killed process left."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import optuna
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from prunetune.backends import full_name, optimizers, trial_pruners
from prunetune.backends.checks import whole_number
from prunetune.backends.seeded import sampler
from prunetune.backends.space import SearchSpace
from prunetune.backends.trial import Outcome
from prunetune.errors import InputError, SearchError
from prunetune.registry import build

Direction: TypeAlias = Literal["maximize", "minimize"]

FINGERPRINT: Final = "prunetune"
LOCK_SECONDS: Final = 60  # how long SQLite waits for another reader or writer

_BY_STATE: Final[dict[TrialState, Outcome]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class StudySettings:
    """What makes two searches the same: one study can be continued with equal settings only."""

    space: SearchSpace
    epochs: int
    direction: Direction = "maximize"
    optimizer: str = "tpe"
    trial_pruner: str = "hyperband"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole_number("epochs", self.epochs, minimum=1))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, minimum=0))
        if self.direction not in get_args(Direction):
            raise InputError(f"direction is {self.direction!r}, but it must be 'maximize' or 'minimize'")
        for name, registry in ((self.optimizer, optimizers), (self.trial_pruner, trial_pruners)):
            registry.check(name)

    def fingerprint(self) -> dict[str, Any]:
        """The settings as plain values, one key a setting, one a dimension of the space."""
        return {
            "format": 1,
            "epochs": self.epochs,
            "direction": self.direction,
            "optimizer": full_name(self.optimizer),
            "trial_pruner": self.trial_pruner,
            "seed": self.seed,
            **{f"space.{name}": each for name, each in self.space.to_dict().items()},
        }


@contextlib.contextmanager
def open_study(storage: str, name: str, settings: StudySettings) -> Iterator[optuna.Study]:
    """The study ``name`` in the storage at that URL, made if need be; closed when the block ends.

    A trial that is still running is one whose process was killed, and is failed as interrupted: one process at a time
    may have a study open. While the block lasts, Optuna logs warnings only.

    Raises
    ------
    SearchError
        The storage cannot be opened, or the study in it was started with other settings; the sentence says which.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        database = stack.enter_context(_connected(storage))
        study = optuna.create_study(
            storage=database,
            study_name=name,  # Hyperband's brackets depend on it
            direction=settings.direction,
            sampler=sampler(settings.optimizer, settings.seed),
            pruner=build(trial_pruners, settings.trial_pruner, BasePruner, settings.epochs),
            load_if_exists=True,
        )
        _check_same(study, settings)
        _fail_stale(study)
        yield study


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def _connected(storage: str) -> Iterator[RDBStorage]:
    try:
        url = make_url(storage)
        wait = {"connect_args": {"timeout": LOCK_SECONDS}} if url.get_backend_name() == "sqlite" else {}
        database = RDBStorage(storage, engine_kwargs=wait)
    except Exception as error:  # whatever the database, its driver or Optuna's check of the schema's version raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SearchError(f"cannot open the storage {_without_password(storage)}: {reason}") from error
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def _without_password(storage: str) -> str:
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except ArgumentError:
        return "URL"


def _check_same(study: optuna.Study, settings: StudySettings) -> None:
    now = json.loads(json.dumps(settings.fingerprint()))
    before = study.user_attrs.get(FINGERPRINT)
    if before is None:
        if study.get_trials(deepcopy=False):
            raise SearchError(f"the study {study.study_name!r} was not made by prunetune; choose another storage")
        study.set_user_attr(FINGERPRINT, now)
        return
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise SearchError(
                f"the study {study.study_name!r} was started with {key} = {before.get(key)!r}, now it is "
                f"{now.get(key)!r}; continue it with the same settings, or choose another storage"
            )


def _fail_stale(study: optuna.Study) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        storage = study._storage  # the only way to annotate a trial of another process
        storage.set_trial_user_attr(trial._trial_id, "outcome", "interrupted")
        storage.set_trial_user_attr(trial._trial_id, "message", "the process was killed during this trial")
        study.tell(trial.number, state=TrialState.FAIL)


def outcome(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended; None for one that waits or runs."""
    if trial.state not in _BY_STATE:
        return None
    said: Outcome | None = trial.user_attrs.get("outcome")
    return said or _BY_STATE[trial.state]


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that use up the budget, in order: all that ended but those that were interrupted."""
    return [t for t in study.get_trials(deepcopy=False) if outcome(t) not in (None, "interrupted")]


def count_outcomes(study: optuna.Study) -> dict[str, int]:
    """How many trials ended in each way, all ways named."""
    counts = Counter(outcome(trial) for trial in study.get_trials(deepcopy=False))
    return {each: counts[each] for each in get_args(Outcome)}


def top_trials(study: optuna.Study, k: int) -> list[FrozenTrial]:
    """The best ``k`` complete trials, best first, no two with the same hyperparameters; the earlier wins a tie.

    Fewer if there are fewer. Trials that diverged or were stopped are never among them.
    """
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    complete = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) == "complete"]
    best: dict[str, FrozenTrial] = {}
    for trial in sorted(complete, key=lambda each: (sign * _score(each), each.number)):
        best.setdefault(json.dumps(trial.params, sort_keys=True), trial)
    return list(best.values())[:k]


def worst_score(study: optuna.Study) -> float:
    """What a diverged trial is told as: the worst finite score in the study, those after single epochs included.

    Before there is any it is the worst that there can be, -inf or +inf, which Optuna stores and TPE ranks last.
    """
    trials = study.get_trials(deepcopy=False)
    seen = [score for trial in trials for score in (*trial.intermediate_values.values(), *(trial.values or ()))]
    finite = [score for score in seen if math.isfinite(score)]
    if study.direction == StudyDirection.MAXIMIZE:
        return min(finite, default=-math.inf)
    return max(finite, default=math.inf)


def _score(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
