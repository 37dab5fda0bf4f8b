"""The search itself: trials are asked for, run, judged and told until the study has as many as it should."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import optuna
from optuna.trial import TrialState

from prunetune.backends.checks import whole_number
from prunetune.backends.notes import study_notes
from prunetune.backends.seeds import derive_seed
from prunetune.backends.space import Params
from prunetune.backends.study import StudySettings, count_outcomes, finished_trials, outcome, top_trials, worst_score
from prunetune.backends.trial import Ending, Report, attempt
from prunetune.errors import InputError, SearchError
from prunetune.events import Observer, Phase, PhaseEnded, PhaseStarted, TrialEnded, TrialStarted, silent

Objective: TypeAlias = Callable[[Params, Report], float]

FAILURES_ALLOWED: Final = 5
MESSAGE_LENGTH: Final = 2_000
TRACEBACK_LENGTH: Final = 10_000


def run_trials(
    study: optuna.Study,
    objective: Objective,
    settings: StudySettings,
    *,
    n_trials: int,
    phase: Phase = "search",
    observer: Observer = silent,
) -> None:
    """Run trials until ``n_trials`` are finished in ``study``, those of earlier starts included.

    Every trial has the user attributes ``outcome``, ``seconds``, ``epochs`` (the last one reported), ``seed``, and
    where there is something to say ``message`` and ``traceback``. One that is complete has the score that the
    objective returned. One that diverged is complete to Optuna, with ``worst_score(study)``, so that the optimizer
    stays away from there; ``outcome`` tells them apart. One that raised is failed, and the search goes on.

    Parameters
    ----------
    study
        From ``open_study`` with the same ``settings``. Enqueued trials come first.
    objective
        ``objective(params, report) -> score``; see ``Report``.

    Raises
    ------
    SearchError
        Every trial so far failed, and there were five (or ``n_trials``, if that is less).
    InputError
        The objective returned or reported no number, and no trial has come to an end yet. Later in a search such a
        trial counts as failed.
    KeyboardInterrupt
        And whatever else is no ``Exception``, from the objective; the trial is recorded as interrupted.
    """
    n_trials = whole_number("n_trials", n_trials, minimum=1)
    started = time.perf_counter()
    observer(PhaseStarted(phase, n_trials, len(finished_trials(study)), study_notes(study, settings, n_trials)))
    loop = _Loop(study, objective, settings, n_trials, phase, observer, warned=settings.trial_pruner == "none")
    while len(finished_trials(study)) < n_trials:
        loop.run_one()
    observer(PhaseEnded(phase, time.perf_counter() - started, _summary(study)))


@dataclass
class _Loop:
    study: optuna.Study
    objective: Objective
    settings: StudySettings
    n_trials: int
    phase: Phase
    observer: Observer
    warned: bool

    def run_one(self) -> None:
        settings = self.settings
        trial = self.study.ask(self.settings.space.to_optuna())
        seed = derive_seed(settings.seed, self.study.study_name, trial.number)
        report = Report(trial, seed=seed, epochs=settings.epochs, phase=self.phase, observer=self.observer)
        params = settings.space.plain(trial.params)
        self.observer(TrialStarted(self.phase, trial.number, params))
        started = time.perf_counter()
        try:
            ending = attempt(self.objective, params, report)
        except BaseException as error:
            stopped = Ending("interrupted", message=f"interrupted by {type(error).__name__}")
            self._record(trial, report, stopped, time.perf_counter() - started)
            raise
        seconds = time.perf_counter() - started
        self._record(trial, report, ending, seconds)
        self._tell_observer(ending, report, seconds)
        self._stop_if_hopeless(ending, trial.number)

    def _record(self, trial: optuna.Trial, report: Report, ending: Ending, seconds: float) -> None:
        notes: dict[str, Any] = {
            "outcome": ending.outcome,
            "seconds": seconds,
            "epochs": report.epoch,
            "seed": report.seed,
        }
        if ending.message:
            notes["message"] = ending.message[:MESSAGE_LENGTH]
        if ending.traceback:
            notes["traceback"] = ending.traceback[-TRACEBACK_LENGTH:]
        for name, value in notes.items():
            trial.set_user_attr(name, value)
        if ending.outcome == "complete":
            self.study.tell(trial, ending.score)
        elif ending.outcome == "diverged":
            self.study.tell(trial, worst_score(self.study))
        else:
            self.study.tell(trial, state=TrialState.PRUNED if ending.outcome == "pruned" else TrialState.FAIL)

    def _tell_observer(self, ending: Ending, report: Report, seconds: float) -> None:
        assert ending.outcome != "interrupted"
        message = ending.message
        if ending.outcome == "complete" and not report.epoch and not self.warned:
            self.warned = True
            message = (
                f"the train function reports nothing, so {self.settings.trial_pruner} cannot stop any trial: call "
                "report(score, epoch) after every epoch, or choose the trial pruner 'none'"
            )
        score = ending.score if ending.outcome == "complete" else report.score
        self.observer(TrialEnded(self.phase, report.number, ending.outcome, score, seconds, message))

    def _stop_if_hopeless(self, ending: Ending, number: int) -> None:
        if ending.outcome != "failed":
            return
        finished = finished_trials(self.study)
        if any(outcome(trial) != "failed" for trial in finished):
            return
        if ending.misuse:
            raise InputError(ending.message)
        if len(finished) >= min(FAILURES_ALLOWED, self.n_trials):
            many = f"the first {len(finished)} trials all failed" if len(finished) > 1 else "the only trial failed"
            failure = SearchError(f"{many} ({self.phase}); the last, trial {number}: {ending.message}")
            failure.add_note(ending.traceback)
            raise failure


def _summary(study: optuna.Study) -> str:
    counts = ", ".join(f"{count} {each}" for each, count in count_outcomes(study).items() if count)
    best = top_trials(study, 1)
    return f"best {best[0].value:.6g} (trial {best[0].number}); {counts}" if best else f"no score; {counts}"
