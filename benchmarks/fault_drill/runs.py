"""A search whose workers are killed, and a check of what is left."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from prunetune.backends import Float, SearchSpace
from prunetune.backends.study import claims, storage
from prunetune.backends.study.attributes import FIXED, RETRY
from prunetune.backends.study.claims import RETRY_OF, is_finished
from prunetune.backends.study.heartbeat import Heartbeat, this_process
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study, outcome
from prunetune.backends.study.trial import Report
from prunetune.events import Event, TrialEnded

SPACE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(1e-4, 1.0, log=True)})
SETTINGS = StudySettings(SPACE, epochs=3, optimizer="random", trial_pruner="none")
LAST_KILL = 0.8  # so much of the search is over, at most, when the last worker is killed
HEARTBEAT = Heartbeat(beat=0.2, stale=3.0)
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Drill:
    """What is done: ``workers`` at a time run ``n_trials`` in all, and ``kills`` of them are killed."""

    storage: str
    n_trials: int = 120
    workers: int = 4
    kills: int = 20
    trial_seconds: float = 0.3
    seed: int = 0
    limit: float = 300.0


@dataclass
class Found:
    """What was found afterwards."""

    trials: list[FrozenTrial]
    begun: Counter[int]
    recorded: Counter[int]
    kills: int
    seconds: float
    failures: list[str] = field(default_factory=list)

    @property
    def finished(self) -> list[int]:
        return [trial.number for trial in self.trials if is_finished(trial)]

    @property
    def interrupted(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if outcome(trial) == "interrupted"]

    @property
    def retried(self) -> set[int]:
        return {trial.user_attrs[RETRY_OF] for trial in self.trials if RETRY_OF in trial.user_attrs}


def run(drill: Drill) -> Found:
    """Do the drill and check what is left."""
    started = time.monotonic()
    rng = random.Random(drill.seed)
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        log.touch()
        count = iter(range(10_000))
        crowd = [_start(drill, log, next(count)) for _ in range(drill.workers)]
        kills = 0
        for begun in sorted(rng.uniform(0, LAST_KILL * drill.n_trials) for _ in range(drill.kills)):
            while _count(log, "begun") < begun and time.monotonic() - started < drill.limit:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1.5 * drill.trial_seconds))
            alive = [process for process in crowd if process.is_alive()]
            if not alive:
                break
            victim = rng.choice(alive)
            _kill(victim)
            kills += 1
            crowd.remove(victim)
            crowd.append(_start(drill, log, next(count)))
        failures = [failure for process in crowd if (failure := _end(process, started + drill.limit))]
        lines = [line.split() for line in log.read_text().splitlines()]
    with open_study(drill.storage, "drill", SETTINGS) as study:
        trials = study.get_trials(deepcopy=True)
    begun, recorded = (Counter(int(n) for what, n in lines if what == word) for word in ("begun", "recorded"))
    found = Found(trials, begun, recorded, kills, time.monotonic() - started, failures)
    found.failures += check(drill, found)
    return found


def check(drill: Drill, found: Found) -> list[str]:
    """Sentences about whatever is not as it should be."""
    said: list[str] = []
    if found.kills != drill.kills:
        said.append(f"only {found.kills} of {drill.kills} kills: the search was over before")
    if len(found.finished) != drill.n_trials:
        said.append(f"{len(found.finished)} trials are finished instead of {drill.n_trials}")
    if lost := set(found.recorded) - set(found.finished):
        said.append(f"trials {sorted(lost)} had been recorded and are lost")
    if twice := [number for number, times in found.begun.items() if times > 1]:
        said.append(f"trials {twice} were begun twice")
    if unknown := set(found.finished) - set(found.begun):
        said.append(f"trials {sorted(unknown)} are finished and were never begun")
    if running := [trial.number for trial in found.trials if trial.state == TrialState.RUNNING]:
        said.append(f"trials {running} are still running")
    if len(found.interrupted) > found.kills:
        said.append(f"{len(found.interrupted)} trials are interrupted by {found.kills} kills")
    points: dict[str, list[int]] = {}
    for trial in found.trials:
        if is_finished(trial):
            points.setdefault(json.dumps(trial.params, sort_keys=True), []).append(trial.number)
    if alike := [numbers for numbers in points.values() if len(numbers) > 1]:
        said.append(f"the same hyperparameters were finished in trials {alike}")
    left = [
        t for t in found.interrupted if t.number not in found.retried and t.user_attrs.get(RETRY, 0) < claims.RETRIES
    ]
    if kept := [t.number for t in left if not any(_has_them(other, t) for other in found.trials)]:
        said.append(f"the hyperparameters of {kept} were not tried again")
    return said


def _has_them(other: FrozenTrial, trial: FrozenTrial) -> bool:
    """Whether ``other`` has all the hyperparameters that ``trial`` had when it was killed.

    Two workers may queue the same retry, and the one that claims the second copy may be killed at that moment. The
    first copy goes on, and nothing is lost. A trial killed while it claimed its place may have none at all.
    """
    had = {**trial.system_attrs.get(FIXED, {}), **trial.params}
    return other.number != trial.number and had.items() <= other.params.items()


def objective(seconds: float, log: Path) -> Callable[[dict[str, Any], Report], float]:
    """Sleeps about that long and reports in between; writes down what was begun."""

    def train(params: dict[str, Any], report: Report) -> float:
        _note(log, "begun", report.number)
        for epoch in range(1, report.epochs + 1):
            time.sleep(seconds / report.epochs * (0.5 + params["x"]))
            report(params["y"] * epoch, epoch)
        return float(params["y"])

    return train


def _count(log: Path, word: str) -> int:
    return log.read_text().count(word)


def _note(log: Path, word: str, number: int) -> None:
    with log.open("a") as file:  # appended in one piece
        file.write(f"{word} {number}\n")


def _start(drill: Drill, log: Path, number: int) -> BaseProcess:
    process = _FORK.Process(target=_work, args=(drill, log, number))
    with warnings.catch_warnings():  # Python 3.12 warns of forks where threads run
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process


def _work(drill: Drill, log: Path, number: int) -> None:
    if number % 2:  # pretend to be on another machine
        elsewhere = {**this_process(), "space": f"machine {number}"}
        storage.this_process = claims.this_process = lambda: elsewhere  # type: ignore[attr-defined]

    def observe(event: Event) -> None:
        if isinstance(event, TrialEnded):
            _note(log, "recorded", event.number)

    with open_study(drill.storage, "drill", SETTINGS) as study:
        train = objective(drill.trial_seconds, log)
        run_trials(study, train, SETTINGS, n_trials=drill.n_trials, observer=observe, heartbeat=HEARTBEAT)


def _kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def _end(process: BaseProcess, deadline: float) -> str | None:
    process.join(max(0.0, deadline - time.monotonic()))
    if process.exitcode is None:
        _kill(process)
        return "a worker did not come to its end"
    return f"a worker ended with status {process.exitcode}" if process.exitcode else None
