"""The trainings of a comparison: each is done once, kept in the run folder's studies, and found there the next time."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from prunetune._utils.hashes import digest
from prunetune._utils.seeds import derive_seed
from prunetune.backends.study.attributes import COMPARE_SECONDS, TEST
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import finished_trials, open_study, outcome
from prunetune.comparison.settings import Way
from prunetune.errors import InputError, SearchError
from prunetune.events import Notice, Observer
from prunetune.record.folder import RunFolder
from prunetune.tuning import parts
from prunetune.tuning.configurations import queue, tried
from prunetune.tuning.objective import Objective
from prunetune.tuning.plans import Plans, kept_plans
from prunetune.tuning.problem import Problem
from prunetune.tuning.recovered import kept_recovered
from prunetune.tuning.types import TrainFunction

if TYPE_CHECKING:
    import optuna
    from torch import nn

    from prunetune.backends.study.study import StudySettings
    from prunetune.backends.study.trial import Report


@dataclass(frozen=True)
class Trained:
    """One training: scores are better the higher, -inf where it came to nothing."""

    params: dict[str, Any]
    outcome: str
    score: float
    test: float
    """On data that chose nothing, where there is some and the network is the full one; else ``score``."""
    seconds: float
    """Of the processor on a CPU, of the clock elsewhere."""

    @property
    def complete(self) -> bool:
        """Whether it came to a score."""
        return self.outcome == "complete"


def key(params: Mapping[str, Any]) -> str:
    """A short name of a configuration."""
    return digest(json.dumps(dict(params), sort_keys=True))[:16]


class EnoughSeen(Exception):
    """The training has come as far as it was meant to."""


class StoppingReport:
    """A report that ends the training after so many of its epochs, with ``EnoughSeen``."""

    def __init__(self, report: Report, after: int) -> None:
        self._report = report
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._report, name)

    def __call__(self, score: float, epoch: int) -> None:
        self._report(score, epoch)
        if epoch >= self._after:
            raise EnoughSeen


class Trainings:
    """All trainings of a comparison of ways for ``problem`` in ``folder``; ``settings`` are those of a full one."""

    def __init__(
        self, folder: RunFolder, settings: StudySettings, problem: Problem, observer: Observer, *, pretrained: bool
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.problem = problem
        self.observer = observer
        self.pretrained = pretrained
        self.notes: list[str] = []
        self.sign = 1.0 if settings.direction == "maximize" else -1.0

    def of(self, way: Way, seed: str, points: Sequence[Mapping[str, Any]]) -> list[Trained]:
        """These configurations trained in that way, in order; what is there is not trained again.

        A training that failed is tried again at the next start, with another seed.
        """
        wanted = {key(point): dict(point) for point in points}
        with self._study(way, seed, "random") as (study, settings):
            total = queue(study, wanted)
            if len(finished_trials(study)) < total:
                self._run(study, settings, way, seed, total)
            found = {**tried(study, ("failed",)), **tried(study)}
        return [self._trained(wanted[key(point)], found.get(key(point))) for point in points]

    def search(self, way: Way, seed: str, optimizer: str, trials: int) -> list[Trained]:
        """The trials of a search in that way, in the order in which they were run."""
        with self._study(way, seed, optimizer) as (study, settings):
            if len(finished_trials(study)) < trials:
                self._run(study, settings, way, f"{seed}, {optimizer}", trials)
            found = finished_trials(study)[:trials]
        return [self._trained(self.settings.space.plain(trial.params), trial) for trial in found]

    @contextlib.contextmanager
    def _study(self, way: Way, seed: str, optimizer: str) -> Iterator[tuple[optuna.Study, StudySettings]]:
        epochs = self.settings.epochs if way.cheaper is None else way.cheaper.epochs
        settings = replace(self.settings, epochs=epochs, optimizer=optimizer, trial_pruner="none")
        same = {**settings.fingerprint(), **way.identity(), "compare": seed}
        name = f"compare-{digest(json.dumps(same, sort_keys=True))[:16]}"
        with open_study(self.folder.storage, name, settings, observer=self.observer) as study:
            yield study, settings

    def _run(self, study: optuna.Study, settings: StudySettings, way: Way, seed: str, total: int) -> None:
        self.observer(Notice(f"{way.name}, seed {seed}"))
        objective = self._objective(study, way, seed.partition(",")[0])
        run_trials(study, objective, settings, n_trials=total, phase="compare", observer=self.observer, retries=0)

    def _objective(self, study: optuna.Study, way: Way, seed: str) -> Callable[[dict[str, Any], Report], float]:
        """The training of a way; no weights are kept."""
        mine, cheaper = self.problem, way.cheaper
        stop = None if cheaper is None else cheaper.stop_after
        if way.pruning is not None:
            plans = kept_plans(study, lambda: self._cut(way, seed), mine.model_fn)
            how = way.pruning.begins, way.pruning.transfer, way.pruning.optimizers
            recovered = kept_recovered(self.folder.path, mine, plans, way.pruning, self.observer)
            training = Objective.on_proxy(mine.model_fn, mine.train, plans, *how, recovered=recovered)
        else:
            build = mine.model_fn if way.smaller is None else mine.smaller[way.smaller]
            train = mine.train if stop is None else _stopped_after(stop, mine.train)
            training = Objective(build, train, data=1.0 if cheaper is None else cheaper.data)

        def objective(params: dict[str, Any], report: Report) -> float:
            with clocked(report):
                model, score = training.trained(params, report)
            self._look_at(way, report, stop)
            if way.kind == "base" and mine.evaluate is not None and math.isfinite(score):
                report.note(TEST, _first(mine.evaluate(model.eval())))
            return score

        return objective

    def _cut(self, way: Way, stream: str) -> Plans:
        assert way.pruning is not None
        return self.problem.plans(way.pruning, derive_seed(self.problem.seed, f"compare-cut-{stream}", 0))

    def _look_at(self, way: Way, report: Report, stop: int | None) -> None:
        """Note what the train function did not heed, since such a rival is none at equal cost."""
        for name in report.unread:
            self._note(f"{way.name}: the train function never read report.{name}, so it trained with all of it")
        if stop is not None and report.epoch < stop and report.stopped is None:
            self._note(f"{way.name}: the train function did not report every epoch, so it could not be stopped")

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.observer(Notice(f"warning: {sentence}"))

    def _trained(self, params: dict[str, Any], trial: optuna.trial.FrozenTrial | None) -> Trained:
        if trial is None:
            return Trained(params, "failed", -math.inf, -math.inf, math.nan)
        ended = str(outcome(trial))
        seconds = trial.user_attrs.get(COMPARE_SECONDS, math.nan)
        if ended != "complete" or trial.value is None:
            return Trained(params, ended, -math.inf, -math.inf, seconds)
        return Trained(
            params, ended, self.sign * trial.value, self.sign * trial.user_attrs.get(TEST, trial.value), seconds
        )


def top(trained: Sequence[Trained], count: int) -> list[dict[str, Any]]:
    """The best ``count`` configurations, no two alike. Raises SearchError if there is none."""
    best: dict[str, dict[str, Any]] = {}
    for each in sorted((each for each in trained if each.complete), key=lambda each: -each.score):
        best.setdefault(key(each.params), each.params)
    if not best:
        raise SearchError("no trial of a search came to a score; there is nothing to choose from")
    return list(best.values())[:count]


def _stopped_after(epochs: int, train: TrainFunction) -> TrainFunction:
    """A train function that ends after so many of its epochs, with the score that it had then."""

    def stopped(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        try:
            return train(model, params, StoppingReport(report, epochs))  # type: ignore[arg-type]
        except EnoughSeen:
            return math.nan if report.score is None else report.score

    return stopped


@contextlib.contextmanager
def clocked(report: Report) -> Iterator[None]:
    """Note the seconds of the block: of the processor, or of the clock where a GPU does the work."""
    on_gpu = torch.cuda.is_initialized() or torch.backends.mps.is_available()  # type: ignore[no-untyped-call]
    clock = time.perf_counter if on_gpu else time.process_time
    started = clock()
    try:
        yield
    finally:
        report.note(COMPARE_SECONDS, clock() - started)


def _first(returned: object) -> float:
    for value in parts.tested(returned).values():
        return math.nan if value is None else value
    raise InputError("evaluate returned no value; it must return at least one, of which the first is taken")
