"""What the workers of one study have to agree on: who may start a trial, whose has died, and when all is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from prunetune.backends.samplers.finite import Finite
from prunetune.backends.samplers.history import unrepeated
from prunetune.backends.study.attributes import (
    FIXED,
    GIVEN_UP,
    INSTEAD_OF,
    OWNER,
    QUEUED_WITH,
    RETRY,
    RETRY_OF,
    WITHDRAWN,
)
from prunetune.backends.study.heartbeat import HeartbeatMonitor, describe, this_process
from prunetune.backends.study.study import discounted, outcome, tally, top_trials
from prunetune.events import Notice, Observer, OthersEnded, Phase

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RETRIES: Final = 2
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
SAY_AFTER: Final = 2.0

Total = Callable[[], int]


def nobody() -> bool:
    """That nobody else trains, so that this process does."""
    return False


@dataclass
class Claims:
    """One worker's view of the others; ``known`` are the numbers of the finished trials that its observer knows of."""

    study: optuna.Study
    space: Mapping[str, BaseDistribution]
    observer: Observer
    monitor: HeartbeatMonitor
    phase: Phase
    retries: int
    known: set[int]
    finite: Finite | None = None
    """The points of the space, if each is to be tried once and then the search ends."""
    others_train: Callable[[], bool] = nobody
    """Whether there are others who start all trials now."""

    def is_room_for_one(self, total: Total) -> bool:
        """Wait until a trial may be started here, or until ``total`` are finished: then it is False."""
        started, pause, said = time.monotonic(), FIRST_PAUSE, False
        while True:
            trials = self.study.get_trials(deepcopy=False)
            if self._give_up_dead(trials):
                trials = self.study.get_trials(deepcopy=False)
            self._tell_of_others(trials)
            finished = len(self.known)
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            enough = self.limit(trials, total())
            if finished >= enough:
                return False
            others = self.others_train()
            if finished + len(running) < enough and not others:
                return True
            if not said and not others and time.monotonic() - started > SAY_AFTER:
                said = True
                self.observer(Notice(f"waiting for {_whose(running)}"))
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def limit(self, trials: Sequence[FrozenTrial], total: int) -> int:
        """How many trials may end: at most ``total``, besides those that are not counted."""
        free = len(discounted(self.study))
        return free + (total if self.finite is None else self.finite.still_possible(trials, total))

    def claim(self, total: Total) -> optuna.Trial | None:
        """A new trial of this process; None if others were quicker: there are enough, or they have had the same one.

        Two workers may have seen room for one and both have asked. Numbers are given in one order, in every storage:
        a trial counts if fewer than ``total`` before it are finished or may still be, and is withdrawn otherwise. So
        the last trial that finishes has fewer than ``total`` that finished before it. Of several that repeat the same
        trial, which workers may have queued in the same moment, the first counts.
        """
        trial = self.study.ask(dict(self.space))
        trials = self.study.get_trials(deepcopy=False)
        mine = next(each for each in reversed(trials) if each.number == trial.number)
        if OWNER not in mine.system_attrs:  # one that was waiting
            self.study._storage.set_trial_system_attr(trial._trial_id, OWNER, this_process())
        before = [each for each in trials if each.number < trial.number]
        count = sum(each.state != TrialState.FAIL or is_finished(each) for each in before)
        room = count < self.limit(trials, total())
        if room and not _is_repeated(mine, before):
            other = self.finite and self.finite.another(mine, trials)
            if other is None:
                return trial
            if other:
                self.study.enqueue_trial(other, user_attrs={INSTEAD_OF: trial.number})
        trial.set_user_attr("outcome", WITHDRAWN)
        self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return None

    def _give_up_dead(self, trials: Sequence[FrozenTrial]) -> bool:
        """Fail the trials that nobody runs any more, and queue them again; whether there was anything to do.

        What is queued is what the study says was given up and is not repeated yet, whoever gave it up: he may have
        died in between, or not know whether his word was heard.
        """
        dead = self.monitor.dead([trial for trial in trials if trial.state == TrialState.RUNNING])
        for trial in dead:
            self._give_up(trial)
        left = unrepeated(self.study.get_trials(deepcopy=False) if dead else trials)
        again = [trial for trial in left if self._may_be_repeated(trial)]
        for trial in again:
            self._queue_again(trial)
        return bool(dead or again)

    def _give_up(self, trial: FrozenTrial) -> None:
        storage, owner = self.study._storage, describe(trial.system_attrs.get(OWNER, {}))
        with contextlib.suppress(
            UpdateFinishedTrialError
        ):  # another worker was quicker, or it came to its end after all
            storage.set_trial_user_attr(trial._trial_id, GIVEN_UP, True)
            storage.set_trial_user_attr(trial._trial_id, "message", f"{owner} was killed during this trial")
            if storage.set_trial_state_values(trial._trial_id, TrialState.FAIL):
                again = self._may_be_repeated(trial)
                what = "its hyperparameters are tried again" if again else "they are not tried again"
                self.observer(Notice(f"trial {trial.number} is given up: {owner} is gone; {what}"))

    def _may_be_repeated(self, trial: FrozenTrial) -> bool:
        return may_be_repeated(trial, self.retries)

    def _queue_again(self, trial: FrozenTrial) -> None:
        """Queue its hyperparameters; of one that died before it had them all those that were given, if any were.

        The others are then drawn again, for a repeated trial has the same place in the random stream.
        """
        whole = trial.params.keys() >= self.space.keys()
        params = trial.params if whole else trial.system_attrs.get(FIXED, {})
        retry = trial.user_attrs.get(RETRY, 0) + 1
        known: dict[str, Any] = {name: trial.user_attrs[name] for name in QUEUED_WITH if name in trial.user_attrs}
        self.study.enqueue_trial(params, user_attrs={**known, RETRY_OF: trial.number, RETRY: retry})

    def _tell_of_others(self, trials: Sequence[FrozenTrial]) -> None:
        news = [trial for trial in trials if trial.number not in self.known and is_finished(trial)]
        if news:
            self.known |= {trial.number for trial in news}
            best = top_trials(self.study, 1)
            self.observer(OthersEnded(self.phase, len(news), best[0].value if best else None, tally(news)))


def may_be_repeated(trial: FrozenTrial, retries: int = RETRIES) -> bool:
    """Whether the hyperparameters of a trial whose worker died are tried once more."""
    return bool(trial.user_attrs.get(RETRY, 0) < retries)


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial uses up the budget: it ended, and was not interrupted."""
    return outcome(trial) not in (None, "interrupted")


def _is_repeated(trial: FrozenTrial, before: Sequence[FrozenTrial]) -> bool:
    """Whether ``trial`` repeats one that another, of those ``before``, repeats already."""
    first = trial.user_attrs.get(RETRY_OF)
    others = (each for each in before if each.user_attrs.get("outcome") != WITHDRAWN)
    return first is not None and any(each.user_attrs.get(RETRY_OF) == first for each in others)


def _whose(running: Sequence[FrozenTrial]) -> str:
    first = ", ".join(f"trial {t.number} of {describe(t.system_attrs.get(OWNER, {}))}" for t in running[:3])
    return f"{first} and {len(running) - 3} more" if len(running) > 3 else first
