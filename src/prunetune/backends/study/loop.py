"""The search itself: trials are asked for, run, judged and told until the study has as many as it should."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from prunetune._utils.checks import whole_number
from prunetune._utils.interrupts import check_interrupted, uninterrupted
from prunetune._utils.seeds import derive_seed
from prunetune.backends.samplers.finite import Finite, size
from prunetune.backends.study.attributes import FIXED, SEARCH_TRIAL, WITHDRAWN
from prunetune.backends.study.claims import RETRIES, Claims, is_finished, nobody
from prunetune.backends.study.heartbeat import Heartbeat, HeartbeatMonitor, beating
from prunetune.backends.study.notes import direction_warning, study_notes
from prunetune.backends.study.study import (
    StudySettings,
    count_outcomes,
    discount,
    discounted,
    ended_trials,
    finished_trials,
    note_ending,
    outcome,
    read_once,
    tally,
    top_trials,
    worst_score,
)
from prunetune.backends.study.trial import Ending, Objective, Report, attempt
from prunetune.errors import InputError, SearchError, StorageError
from prunetune.events import (
    Notice,
    Observer,
    Phase,
    PhaseEnded,
    PhaseStarted,
    TrialEnded,
    TrialStarted,
    Warned,
    counts_in_words,
    silent,
)

FAILURES_ALLOWED: Final = 5
LOOK_AGAIN: Final = 1.1  # times as many trials say something new of a direction
NOTABLE: Final = 0.5  # the share of trials that fail and are worth a warning
MESSAGE_LENGTH: Final = 2_000
TRACEBACK_LENGTH: Final = 10_000


def run_trials(
    study: optuna.Study,
    objective: Objective,
    settings: StudySettings,
    *,
    n_trials: int | Callable[[], int],
    phase: Phase = "search",
    observer: Observer = silent,
    heartbeat: Heartbeat = Heartbeat(),  # noqa: B008  # frozen
    retries: int = RETRIES,
    after: float = 0.0,
    distinct: bool = False,
    others_train: Callable[[], bool] = nobody,
) -> int:
    """Run trials until ``n_trials`` are finished in ``study``; returns how many were run here.

    Those of earlier starts and of other workers count. Where trials of others are still running at the end, they are
    waited for, and what one that dies leaves is taken over; there are never more than ``n_trials`` that finish.

    Every trial has the user attributes ``outcome``, ``seconds``, ``epochs`` (so many were trained), ``seed``, and
    where there is something to say ``message`` and ``traceback``. One that is complete has the score that the
    objective returned. One that diverged is complete to Optuna, with ``worst_score(study)``, so that the optimizer
    stays away from there; ``outcome`` tells them apart. One that raised is failed, and the search goes on. One whose
    process died is failed as interrupted, and its hyperparameters come once more, with another seed.

    Parameters
    ----------
    study
        From ``open_study`` with the same ``settings``. Enqueued trials come first.
    objective
        ``objective(params, report) -> score``; see ``Report``.
    n_trials
        Or a function that says how many, asked before each trial, for workers of a search that may be made longer.
    heartbeat
        How soon a dead worker is noticed; the same for all workers of a study.
    retries
        How often hyperparameters are tried again whose process died.
    distinct
        Whether a finite space ends the search when all its points were tried, each once; what an optimizer comes back
        to is replaced by the untried point next to it.
    others_train
        Says whether there are others who train now: as long as there are, this process only looks on.
    after
        For ``PhaseStarted``: the work that follows these trials, in epochs of theirs.

    Raises
    ------
    SearchError
        Every trial so far failed, and there were five (or ``n_trials``, if that is less); or five in a row failed here
        with the same kind of error. They do not count when the search is continued.
    StorageError
        The storage was gone for longer than it is waited for.
    InputError
        The objective returned or reported no number, and no trial has come to an end yet. Later in a search such a
        trial counts as failed.
    KeyboardInterrupt
        And whatever else is no ``Exception``, from the objective; the trial is recorded as interrupted.
    """
    total = n_trials if callable(n_trials) else _always(whole_number("n_trials", n_trials, minimum=1))
    started = time.perf_counter()
    ended, finished = ended_trials(study), finished_trials(study)
    best = next((trial.value for trial in top_trials(study, 1)), None)
    space = settings.space.to_optuna()
    finite = Finite(space) if distinct and size(space) is not None else None
    known = {trial.number for trial in ended}
    claims = Claims(study, space, observer, HeartbeatMonitor(heartbeat), phase, retries, known, finite, others_train)
    possible = claims.limit(study.get_trials(deepcopy=False), total()) - len(discounted(study))
    notes = study_notes(study, settings, total())
    before = tally(finished)
    observer(PhaseStarted(phase, possible, len(finished), notes, best, after, settings.direction, before))
    warned = settings.trial_pruner == "none" or phase != "search"  # on the full network it is known by then
    loop = _Loop(study, objective, settings, total, phase, observer, claims, warned)
    while claims.is_room_for_one(total):
        check_interrupted()
        loop.run_one()
    loop.warn_of_failures()
    observer(PhaseEnded(phase, time.perf_counter() - started, _summary(study)))
    return loop.ran


def _always(number: int) -> Callable[[], int]:
    return lambda: number


@dataclass
class _Loop:
    study: optuna.Study
    objective: Objective
    settings: StudySettings
    n_trials: Callable[[], int]
    phase: Phase
    observer: Observer
    claims: Claims
    warned: bool
    ran: int = 0
    told_direction: bool = False
    look: int = 0
    """After so many trials here the direction of the scores is looked at again."""
    kind: str = ""
    alike: list[int] = field(default_factory=list)
    """The last trials here that failed one after the other, with this kind of error."""

    def run_one(self) -> None:
        claimed: tuple[optuna.Trial, Report] | None = None
        started = time.perf_counter()
        try:
            with uninterrupted(), read_once(self.study):
                claimed = self._claim()
            if claimed is None:
                return
            trial, report = claimed
            params = self.settings.space.plain(trial.params)
            self.observer(TrialStarted(self.phase, trial.number, copy.deepcopy(params)))
            started = time.perf_counter()
            with beating(self.study._storage, trial._trial_id, self.claims.monitor.heartbeat):
                ending = attempt(self.objective, params, report)
        except BaseException as error:
            if claimed is not None:
                stopped = Ending("interrupted", message=f"interrupted by {type(error).__name__}")
                with contextlib.suppress(StorageError):  # this error is the one to hear of, or is that very one
                    self._record(*claimed, stopped, time.perf_counter() - started)
            raise
        seconds = time.perf_counter() - started
        if self._record(trial, report, ending, seconds):
            with read_once(self.study):
                self._tell_observer(ending, report, seconds)
                self._stop_if_hopeless(ending, trial.number)
                self._warn_of_direction()
        else:
            gone = f"trial {trial.number} was given up by another worker, to which this process seemed dead"
            self.observer(Notice(f"{gone}; its result is dropped"))

    def _claim(self) -> tuple[optuna.Trial, Report] | None:
        settings = self.settings
        self._drop_impossible()
        try:
            trial = self.claims.claim(self.n_trials)
        except UpdateFinishedTrialError:  # this process was suspended for so long that it seemed dead
            return None
        if trial is None:
            return None
        seed = derive_seed(settings.seed, self.study.study_name, trial.number)
        return trial, Report(trial, seed=seed, epochs=settings.epochs, phase=self.phase, observer=self.observer)

    def _drop_impossible(self) -> None:
        """Tell of trials that somebody has enqueued and that are not in the space, and take them out of the queue."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if complaint := self.settings.space.complaint(trial.system_attrs.get(FIXED, {})):
                storage = self.study._storage
                with contextlib.suppress(UpdateFinishedTrialError):
                    storage.set_trial_user_attr(trial._trial_id, "outcome", WITHDRAWN)
                    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                    self.observer(
                        Warned(f"warning: trial {trial.number}, which was enqueued, is left out: {complaint}")
                    )

    def _record(self, trial: optuna.Trial, report: Report, ending: Ending, seconds: float) -> bool:
        """Write down how a trial ended; False if another worker has given it up meanwhile."""
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
        with uninterrupted():
            try:
                note_ending(self.study, trial, notes)
                told = self._tell(trial, ending)
            except UpdateFinishedTrialError:
                return False
            if outcome(told) != ending.outcome:
                return False
            if is_finished(told):
                self.claims.known.add(trial.number)
                self.ran += 1
        return True

    def _tell(self, trial: optuna.Trial, ending: Ending) -> FrozenTrial:
        if ending.outcome == "complete":
            return self.study.tell(trial, ending.score, skip_if_finished=True)
        if ending.outcome == "diverged":
            return self.study.tell(trial, worst_score(self.study), skip_if_finished=True)
        state = TrialState.PRUNED if ending.outcome == "pruned" else TrialState.FAIL
        return self.study.tell(trial, state=state, skip_if_finished=True)

    def _tell_observer(self, ending: Ending, report: Report, seconds: float) -> None:
        assert ending.outcome != "interrupted"
        score = ending.score if ending.outcome == "complete" else report.score
        self.observer(TrialEnded(self.phase, report.number, ending.outcome, score, seconds, ending.message))
        if ending.outcome == "complete" and not report.epoch and not self.warned:
            self.warned = True
            self.observer(
                Warned(
                    f"warning: the train function reports nothing, so {self.settings.trial_pruner} cannot stop any "
                    "trial: call report(score, epoch) after every epoch, or choose the trial pruner 'none'"
                )
            )

    def _warn_of_direction(self) -> None:
        if self.told_direction or self.phase != "search" or self.ran < self.look:
            return
        self.look = math.ceil(LOOK_AGAIN * self.ran)
        if warning := direction_warning(self.study):
            self.told_direction = True
            self.observer(Warned(warning))

    def _stop_if_hopeless(self, ending: Ending, number: int) -> None:
        """Raise SearchError where every trial fails, or the last ones here all do in the same way.

        No other hyperparameters would mend what is wrong then, a device that has died say; so these are not counted.
        """
        if ending.outcome != "failed" or ending.kind != self.kind:
            self.alike.clear()
        if ending.outcome != "failed":
            return
        self.kind = ending.kind
        self.alike.append(number)
        ended = ended_trials(self.study)
        every = all(outcome(trial) == "failed" for trial in ended)
        failed = [trial.number for trial in ended] if every else self.alike
        misused = every and ending.misuse
        if not misused and len(failed) < (min(FAILURES_ALLOWED, self.n_trials()) if every else FAILURES_ALLOWED):
            return
        discount(self.study, failed)
        if misused:
            raise InputError(ending.message)
        many = f"the first {len(failed)} trials all failed" if len(failed) > 1 else "the only trial failed"
        many = many if every else f"the last {len(failed)} trials all failed with {ending.kind}, and are not counted"
        failure = SearchError(f"{many} ({self.phase}); the last, trial {number}: {ending.message}")
        failure.add_note(ending.traceback)
        raise failure

    def warn_of_failures(self) -> None:
        """Tell of it if half of the trials or more have failed: what came out may be for want of them."""
        ended = finished_trials(self.study)
        failed = [trial for trial in ended if outcome(trial) == "failed"]
        if self.phase == "search" and failed and len(failed) >= NOTABLE * len(ended):
            why = f"the last, trial {failed[-1].number}: {failed[-1].user_attrs.get('message', 'nobody knows why')}"
            self.observer(Warned(f"warning: {len(failed)} of {len(ended)} trials failed ({self.phase}); {why}"))


def _summary(study: optuna.Study) -> str:
    counts = counts_in_words(count_outcomes(study))
    best = next(iter(top_trials(study, 1)), None)
    if best is None:
        return f"no score; {counts}"
    number = best.user_attrs.get(SEARCH_TRIAL, best.number)  # a confirmed one is known by its number in the search
    return f"best {best.value:.6g} (trial {number}); {counts}"
