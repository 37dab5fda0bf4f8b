"""One trial as the objective sees it: ``Report``, and the exceptions with which a report ends a trial."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import optuna
from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from prunetune._utils.checks import real_number, whole_number
from prunetune.backends.space import Params
from prunetune.backends.study.attributes import (
    ASKED,
    RETRY_OF,
)
from prunetune.errors import InputError, StorageError
from prunetune.events import EpochEnded, Observer, Phase, Warned

Outcome: TypeAlias = Literal["complete", "pruned", "diverged", "failed", "interrupted"]


Objective: TypeAlias = "Callable[[Params, Report], float]"
GroupsFunction: TypeAlias = Callable[..., list[dict[str, Any]]]


class TrialDiverged(TrialPruned):
    """The score is NaN or infinite: the trial is over. Where a clean-up catches TrialPruned it catches this too."""


class Misuse(InputError):
    """The objective breaks its contract (returns None, reports text); it will most likely do so in every trial."""


@dataclass(frozen=True)
class Ending:
    """How a trial ended, as plain values: an exception would keep the trial's network alive.

    ``score`` is there if it is complete, ``traceback`` and the ``kind`` of error if it raised; ``misuse`` says that it
    broke its contract.
    """

    outcome: Outcome
    score: float | None = None
    message: str = ""
    traceback: str = ""
    misuse: bool = False
    kind: str = ""


class Report:
    """Tells a trial's score after each epoch: ``report(score, epoch)``. Raises TrialPruned to end the trial.

    Attributes
    ----------
    number
        The trial's number in its study.
    seed
        The seed for everything random in this trial, 0..2**32 - 1; no other trial has the same.
    epochs
        How many epochs to train.
    """

    def __init__(self, trial: optuna.Trial, *, seed: int, epochs: int, phase: Phase, observer: Observer) -> None:
        self.number: int = trial.number
        self.seed = seed
        self.epochs = epochs
        self._trial = trial
        self._phase: Phase = phase
        self._observer = observer
        self._epoch = 0
        self._score: float | None = None
        self._scores: list[float] = []
        self._stopped: Ending | None = None
        self._groups: GroupsFunction | None = None
        self._asked = False
        self._shares: dict[str, float] = {}
        self._read: set[str] = set()

    @property
    def resolution(self) -> float:
        """The share of the full images' height and width to train and validate with; 1.0 on the full network."""
        return self._share("resolution")

    @property
    def data(self) -> float:
        """The share of the training images to train with, the same in all trials; 1.0 on the full network."""
        return self._share("data")

    def _share(self, name: str) -> float:
        self._read.add(name)
        return self._shares.get(name, 1.0)

    def ask(self, *, resolution: float, data: float) -> None:
        """Set what ``resolution`` and ``data`` are."""
        self._shares, self._read = {"resolution": resolution, "data": data}, set()

    @property
    def unread(self) -> tuple[str, ...]:
        """Which of ``resolution`` and ``data`` was asked to be less than 1, and has not been looked at."""
        return tuple(name for name, share in self._shares.items() if share != 1 and name not in self._read)

    @property
    def phase(self) -> Phase:
        """What the trial is a part of."""
        return self._phase

    @property
    def epoch(self) -> int:
        """The last epoch reported; 0 before the first report."""
        return self._epoch

    @property
    def score(self) -> float | None:
        """The last finite score reported, if there is one."""
        return self._score

    @property
    def scores(self) -> tuple[float, ...]:
        """The finite scores reported so far."""
        return tuple(self._scores)

    @property
    def stopped(self) -> Ending | None:
        """How ``report`` ended the trial, if it did, whatever the objective made of the exception."""
        return self._stopped

    def note(self, name: str, value: Any) -> None:
        """Store ``value`` (plain JSON values only) as the trial's user attribute ``name``."""
        self._trial.set_user_attr(name, value)

    def warn(self, sentence: str) -> None:
        """Tell the observer of what is most likely a mistake in the train function."""
        self._observer(Warned(sentence))

    def param_groups(
        self, model: Any, *, lr: float, weight_decay: float = 0.0, optimizer: Literal["sgd", "adam"] = "sgd"
    ) -> list[dict[str, Any]]:
        """What an optimizer takes instead of ``model.parameters()``: parameter groups with ``lr`` and ``weight_decay``.

        On the full network one plain group; on a proxy several, with what the transfer rule makes of the
        hyperparameters where it is narrower, see ``prunetune.transfer``. Ask before the training begins: the rule may
        scale the initial weights, too.

        Parameters
        ----------
        model
            The model that the train function was given.
        optimizer
            ``"sgd"``, with momentum or without; ``"adam"`` for Adam, AdamW and others whose steps do not grow with the
            gradient.

        Raises
        ------
        InputError
            For an unknown kind of optimizer, a negative value, or another model.

        Example
        -------
        In a train function::

            sgd = torch.optim.SGD(report.param_groups(model, lr=params["lr"], weight_decay=1e-4), momentum=0.9)
        """
        if self._groups is None:
            raise InputError("report.param_groups: nobody has said how this report's model was made")
        self.mark_corrected()
        return self._groups(model, lr=lr, weight_decay=weight_decay, optimizer=optimizer)

    @property
    def asked_groups(self) -> bool:
        """Whether ``param_groups`` was called, or an optimizer corrected without."""
        return self._asked

    def mark_corrected(self) -> None:
        """Note in the trial that an optimizer got what the transfer rule makes of its hyperparameters."""
        if not self._asked:
            self._asked = True
            self.note(ASKED, True)

    def give_groups(self, groups: GroupsFunction) -> None:
        """Say what ``param_groups`` returns: for those who know what the objective trains."""
        self._groups = groups

    def __call__(self, score: float, epoch: int) -> None:
        """Record ``score`` after ``epoch``, the first being 1.

        Raises
        ------
        TrialPruned
            This trial is not worth finishing, or (TrialDiverged) ``score`` is NaN or infinite.
        InputError
            ``score`` is no number, or ``epoch`` is not a later one than last time, at most ``epochs``.
        """
        if self._stopped is not None:
            _raise(self._stopped)
        value, number = self._checked(score, epoch)
        self._epoch = number
        if not math.isfinite(value):
            self._stop(Ending("diverged", message=f"the score is {value} after epoch {number}"))
        self._score = value
        self._scores.append(value)
        self._tell(value, number)

    def _tell(self, value: float, number: int) -> None:
        try:
            self._trial.report(value, number)
        except UpdateFinishedTrialError:
            self._stop(Ending("interrupted", message="given up by another worker, to which this process seemed dead"))
        self._observer(EpochEnded(self._phase, self.number, number, self.epochs, value))
        # Optuna's rungs include the last epoch, where stopping would save nothing and lose a finished trial
        with np.errstate(all="ignore"):  # a train function's own numpy may raise what a trial pruner counts on
            hopeless = number < self.epochs and self._trial.should_prune()
        if hopeless:
            self._stop(Ending("pruned", message=f"stopped after epoch {number} of {self.epochs}"))

    def _stop(self, ending: Ending) -> NoReturn:
        self._stopped = ending
        _raise(ending)

    def _checked(self, score: object, epoch: object) -> tuple[float, int]:
        try:
            value = real_number("report: the score", score)
            whole = int(epoch) if isinstance(epoch, float) and epoch.is_integer() else epoch  # some trainers count so
            number = whole_number("report: epoch", whole, minimum=1)
        except InputError as error:
            raise Misuse(str(error)) from None
        if number <= self._epoch:
            raise Misuse(f"report: epoch is {number} after {self._epoch}; call report once an epoch, counting from 1")
        if number > self.epochs:
            raise Misuse(f"report: epoch is {number}, but a trial has {self.epochs} epochs (report.epochs)")
        return value, number


def _raise(stopped: Ending) -> NoReturn:
    raise (TrialDiverged if stopped.outcome == "diverged" else TrialPruned)(stopped.message)


def repeated(trial: FrozenTrial, everything: Mapping[int, FrozenTrial]) -> list[FrozenTrial]:
    """The trials that ``trial`` repeats, the latest first, of those in ``everything``, which are by number."""
    found = []
    while RETRY_OF in trial.user_attrs:
        trial = everything[trial.user_attrs[RETRY_OF]]
        found.append(trial)
    return found


def attempt(objective: Objective, params: Params, report: Report) -> Ending:
    """Run ``objective`` and say how that ended. Raises what is no ``Exception`` (Ctrl-C), and StorageError."""
    try:
        returned = objective(params, report)
    except TrialPruned as error:
        return report.stopped or Ending("pruned", message=str(error))
    except StorageError:  # not the user's code: nothing can be recorded any more
        raise
    except Exception as error:  # the user's code may raise anything, and the study goes on
        misuse = isinstance(error, Misuse)
        message = str(error) if misuse else f"{type(error).__name__}: {error}"
        message = "; ".join([message, *getattr(error, "__notes__", ())])
        trace = "".join(traceback.format_exception(error))
        return report.stopped or Ending(
            "failed", message=message, traceback=trace, misuse=misuse, kind=type(error).__name__
        )
    return report.stopped or _judge(returned)


def final_score(returned: object) -> float:
    """What a train function returned, as a number. Raises Misuse if it is none."""
    try:
        return real_number("the train function's return value, its final score,", returned)
    except InputError as error:
        raise Misuse(str(error)) from None


def _judge(returned: object) -> Ending:
    try:
        score = final_score(returned)
    except Misuse as error:
        return Ending("failed", message=str(error), misuse=True, kind=type(error).__name__)
    if not math.isfinite(score):
        return Ending("diverged", message=f"the final score is {score}")
    return Ending("complete", score)
