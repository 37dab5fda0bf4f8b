"""Single searches on a tabulated objective, and how good the best is that they find."""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, TypeAlias

import numpy as np
import optuna
import torch
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from benchmarks.common.curves import CHANCE, Table
from prunetune.backends import trial_pruners
from prunetune.backends.samplers.seeded import sampler
from prunetune.backends.space import Params
from prunetune.backends.study.study import worst_score
from prunetune.backends.study.trial import Report, attempt
from prunetune.events import silent
from prunetune.registry import build

Row: TypeAlias = dict[str, Any]
"""What a search has come to; see README.md."""

STATES: Final = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "diverged": TrialState.COMPLETE}


@dataclass
class Record:
    """What trials cost and found, in the order of their ends."""

    epochs: list[int] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    """Of the last epoch; None for one that did not come to it."""

    def add(self, epochs: int, score: float | None) -> None:
        self.epochs.append(epochs)
        self.scores.append(score)

    @property
    def spent(self) -> int:
        """Epochs so far."""
        return sum(self.epochs)

    def after_trials(self, trials: int) -> float:
        """The best score of the first so many trials; that of guessing if there is none."""
        return max((score for score in self.scores[:trials] if score is not None), default=CHANCE)

    def after_epochs(self, epochs: int) -> float:
        """The best score of the trials that came to their end within so many epochs."""
        ended = np.cumsum(self.epochs) <= epochs
        return self.after_trials(int(ended.sum()))


@dataclass(frozen=True)
class Extent:
    """How long a search is: `trials` trials, and as many epochs as those have if none is stopped."""

    trials: int

    @property
    def marks(self) -> tuple[int, ...]:
        """After how many trials one looks: a fifth, a half, all."""
        return tuple(max(1, self.trials * part // 10) for part in (2, 5, 10))

    def budgets(self, table: Table) -> tuple[int, ...]:
        """After how many epochs: a third of those of all trials, all."""
        return (self.trials * table.epochs // 3, self.trials * table.epochs)

    def row(self, record: Record, table: Table) -> Row:
        """The regrets, in points of accuracy below the table's best."""

        def regret(score: float) -> float:
            return round(100 * (table.best - score), 3)

        return {
            "after_trials": {str(mark): regret(record.after_trials(mark)) for mark in self.marks},
            "after_epochs": {str(budget): regret(record.after_epochs(budget)) for budget in self.budgets(table)},
            "trials": len(record.scores),
            "complete": sum(score is not None for score in record.scores),
        }


def search(
    table: Table, optimizer: BaseSampler, trial_pruner: str, seed: int, extent: Extent, *, workers: int = 1
) -> Record:
    """A search by our optimizers and trial pruners, until both trials and epochs are used up.

    With several workers as many trials run at once, all equally fast, and one after another ends: each is asked for
    when all but the last ``workers - 1`` before it have been told.
    """
    study = optuna.create_study(
        study_name=f"{table.name} {seed}",  # Hyperband's brackets depend on it
        direction="maximize",
        sampler=optimizer,
        pruner=build(trial_pruners, trial_pruner, BasePruner, table.epochs),
    )
    record, running = Record(), deque[optuna.Trial]()
    while len(record.scores) < extent.trials or record.spent < extent.budgets(table)[-1]:
        while len(running) < workers:
            running.append(study.ask(table.space.to_optuna()))
        record.add(*_run(study, running.popleft(), table))
    return record


def _run(study: optuna.Study, trial: optuna.Trial, table: Table) -> tuple[int, float | None]:
    """The epochs and the last score of a trial, which is told as `backends.loop` tells it."""
    report = Report(trial, seed=0, epochs=table.epochs, phase="search", observer=silent)
    ending = attempt(lambda params, report: _train(table, params, report), trial.params, report)
    score = worst_score(study) if ending.outcome == "diverged" else ending.score
    study.tell(trial, score, STATES[ending.outcome])
    return report.epoch, ending.score


def _train(table: Table, params: Params, report: Report) -> float:
    score = math.nan
    for epoch, score in enumerate(table.curve(params).tolist(), start=1):
        report(score, epoch)
    return score


Key: TypeAlias = tuple[str, str, str, str, int]
"""Part, table, optimizer, trial pruner, seed."""
Job: TypeAlias = tuple[Key, Callable[[], Row]]
KEY: Final = ("part", "table", "optimizer", "trial_pruner", "seed")


def measured(key: Key, job: Callable[[], Row]) -> Row:
    started = time.process_time()
    row = dict(zip(KEY, key, strict=True)) | job()
    return {**row, "cpu_seconds": round(time.process_time() - started, 2)}


def quiet() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)


REPEATS: Final = 5


def overhead(table: Table, optimizer: str, marks: Sequence[int]) -> Row:
    """Milliseconds of the trial after ``mark - 1`` others, for each mark: the first such trial of a process and others.

    The others are points at random, each with its score.
    """
    milliseconds(table, optimizer, 12)  # what is imported and compiled on first use
    times = {mark: milliseconds(table, optimizer, mark) for mark in marks}
    return {
        "first_ms": {str(mark): round(each[0], 3) for mark, each in times.items()},
        "ms": {str(mark): round(median(each[1:]), 3) for mark, each in times.items()},
    }


def milliseconds(table: Table, optimizer: str, mark: int) -> list[float]:
    """Of the trial with that number, from 1, and of those after it; in a study that this process did not make."""
    study = optuna.create_study(direction="maximize", sampler=sampler(optimizer, seed=0))
    study.add_trials(_random_trials(table, mark - 1))
    space = table.space.to_optuna()
    return [_one(study, table, space) for _ in range(REPEATS)]


def _one(study: optuna.Study, table: Table, space: dict[str, optuna.distributions.BaseDistribution]) -> float:
    started = time.process_time()
    trial = study.ask(space)
    asked = time.process_time()
    score = _score(table, trial.params)
    told = time.process_time()
    study.tell(trial, score)
    return 1000 * (asked - started + time.process_time() - told)


def _random_trials(table: Table, count: int) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = table.space.to_optuna()
    points = [study.ask(space).params for _ in range(count)]
    return [create_trial(params=each, distributions=space, value=_score(table, each)) for each in points]


def _score(table: Table, params: dict[str, float]) -> float:
    score = float(table.curve(params)[-1])
    return CHANCE if score != score else score
