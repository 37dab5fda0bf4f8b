"""What a trial costs beside its training: the processor's time for asking and telling."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

import optuna
from optuna.trial import create_trial

from benchmarks.common.curves import CHANCE, Table
from benchmarks.optimizers.runs import Row
from prunetune.backends.samplers.seeded import sampler

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
