"""Trials of an Optuna study as plain values."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

OUTCOME_ATTRIBUTE = "outcome"
MESSAGE_ATTRIBUTE = "message"
SECONDS_ATTRIBUTE = "seconds"
GIVEN_UP_ATTRIBUTE = "given_up"
WITHDRAWN = "withdrawn"
SOURCE_ATTRIBUTE = "search_trial"  # of a confirmation: the trial of the search that it repeats
# what Optuna raises on odd contents
_MALFORMED = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError)
OUTCOMES = ("complete", "pruned", "diverged", "failed", "interrupted", "running")

_BY_STATE = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class Trial:
    """One trial, as it ended; a confirmation has the number of the trial that it confirms.

    ``score`` is the final one of a complete trial, and of any other the last that it reported: the value that Optuna
    has for a trial that diverged is only what the optimizer was told. ``curve`` are the reports, (epoch, finite value
    or None).
    """

    number: int
    outcome: str
    score: float | None
    params: Mapping[str, Any]
    distributions: Mapping[str, optuna.distributions.BaseDistribution]
    curve: tuple[tuple[int, float | None], ...]
    seconds: float | None
    message: str
    frozen: FrozenTrial


def read_trials(study: Path, study_name: str, *, storage: str | None = None) -> tuple[tuple[Trial, ...], str | None]:
    """Trials of the study in order, and a sentence that says why there are none where they can't be read.

    ``study`` is the run folder's file. Nothing is written to it or beside it: the run may still be going on, and the
    folder may be read-only. The storage at the URL ``storage`` is read in its place if given.
    """
    if storage is None and not study.is_file():
        return (), f"There is no {study.name} in the run folder, so nothing is shown trial by trial."
    try:
        with _stored_in(study) if storage is None else _stored_at(storage) as source:
            found = _load(source, study_name)
            trials = tuple(trial for trial in map(plain_trial, found or ()) if trial is not None)
    except (OSError, sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError, *_MALFORMED) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (), f"The studies could not be read ({reason}), so nothing is shown trial by trial."
    if found is None:
        return (), f"There is no study named “{study_name}” yet, so nothing is shown trial by trial."
    return trials, None


@contextlib.contextmanager
def _stored_in(study: Path) -> Iterator[BaseStorage]:
    """The storage in a run folder's file, which is a database in a run of version 0.1."""
    if study.suffix == ".log":
        yield JournalStorage(JournalFileBackend(str(study)))
        return
    with tempfile.TemporaryDirectory(prefix="prunetune-report-") as folder:
        copy = Path(folder) / study.name
        with (
            contextlib.closing(sqlite3.connect(f"{study.resolve().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        with _stored_at(f"sqlite:///{copy}") as storage:
            yield storage


@contextlib.contextmanager
def _stored_at(url: str) -> Iterator[BaseStorage]:
    if url.startswith("journal:"):
        yield JournalStorage(JournalFileBackend(url.removeprefix("journal:").removeprefix("//")))
        return
    storage = optuna.storages.RDBStorage(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _load(storage: BaseStorage, study_name: str) -> list[FrozenTrial] | None:
    """The study's trials; None if there is no such study."""
    if study_name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=study_name, storage=storage).get_trials(deepcopy=False)


def plain_trial(trial: FrozenTrial) -> Trial | None:
    """An Optuna trial as a plain value; None for one that only waits, or was withdrawn before it began.

    Raises ValueError for one that is damaged.
    """
    notes = trial.user_attrs
    said, source, seconds = (notes.get(name) for name in (OUTCOME_ATTRIBUTE, SOURCE_ATTRIBUTE, SECONDS_ATTRIBUTE))
    if trial.state not in _BY_STATE or said == WITHDRAWN:
        return None
    if trial.state == TrialState.COMPLETE and not trial.values:
        raise ValueError(f"trial {trial.number} is complete and has no score")
    if not all(isinstance(name, str) for name in trial.params):
        raise ValueError(f"a hyperparameter of trial {trial.number} has no name")
    if trial.state == TrialState.FAIL and notes.get(GIVEN_UP_ATTRIBUTE):
        said = "interrupted"
    outcome = said if isinstance(said, str) and said in OUTCOMES else _BY_STATE[trial.state]
    curve = tuple((step, _finite(value)) for step, value in sorted(trial.intermediate_values.items()))
    final = _finite(trial.values[0]) if trial.values and outcome == "complete" else None
    reported = [value for _, value in curve if value is not None]
    return Trial(
        number=source if type(source) is int else trial.number,
        outcome=outcome,
        score=final if final is not None else (reported[-1] if reported else None),
        params=trial.params,
        distributions=trial.distributions,
        curve=curve,
        seconds=_finite(seconds) if type(seconds) is float else _lifetime(trial),
        message="" if outcome in ("complete", "pruned") else str(notes.get(MESSAGE_ATTRIBUTE, "")),
        frozen=trial,
    )


def _lifetime(trial: FrozenTrial) -> float | None:
    return trial.duration.total_seconds() if trial.duration else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Scale:
    """Where the values of one hyperparameter lie between 0 and 1: log, linear, or one place for each choice."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] | None = None

    def place(self, value: Any) -> float | None:
        """Position in [0, 1], or None for a value that is not on the scale."""
        if not self.holds(value):
            return None
        if self.choices is not None:
            return self.choices.index(value) / (len(self.choices) - 1) if len(self.choices) > 1 else 0.5
        if self.high <= self.low:
            return 0.5
        transform = math.log if self.log else float
        return (transform(value) - transform(self.low)) / (transform(self.high) - transform(self.low))

    def holds(self, value: Any) -> bool:
        """Whether a slice can show the value: one of the choices, or a number."""
        return value in self.choices if self.choices is not None else isinstance(value, int | float)

    def ticks(self) -> list[Any]:
        """Values to label: every choice up to six, the ends and powers of ten between them, or ends and middle."""
        if self.choices is not None:
            return list(self.choices) if len(self.choices) <= 6 else [self.choices[0], self.choices[-1]]
        if self.high <= self.low:
            return [self.low]
        if not self.log:
            return [self.low, (self.low + self.high) / 2, self.high]
        powers = [10.0**k for k in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]
        inner = [power for power in powers if 0.12 < (self.place(power) or 0.0) < 0.88]
        return [self.low, *(inner if len(inner) <= 4 else []), self.high]


def scale_of(distribution: optuna.distributions.BaseDistribution) -> Scale:
    """The scale of an Optuna distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return Scale(choices=tuple(distribution.choices))
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return Scale(float(distribution.low), float(distribution.high), distribution.log)
    return Scale()


def parameters(trials: tuple[Trial, ...]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Every hyperparameter that any trial has, in order of appearance, with the distribution first seen."""
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            found.setdefault(name, distribution)
    return found
