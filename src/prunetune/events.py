"""What a running job tells whoever watches it: plain values, handed to an ``Observer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from prunetune.errors import warn_caller

if TYPE_CHECKING:
    from prunetune._utils.checks import Direction

Phase: TypeAlias = Literal[
    "prune",
    "check-proxy",
    "check-base",
    "check-again",
    "search",
    "climb",
    "confirm",
    "train",
    "compare",
    "report",
]
Outcome: TypeAlias = Literal["complete", "pruned", "failed", "diverged"]

_IN_WORDS: Final = {"pruned": "stopped early"}


def outcome_in_words(outcome: str) -> str:
    """How a training ended, as people are told: "pruned" is Optuna's word, and ours for networks.

    >>> outcome_in_words("pruned"), outcome_in_words("failed")
    ('stopped early', 'failed')
    """
    return _IN_WORDS.get(outcome, outcome)


def counts_in_words(counts: Mapping[str, int]) -> str:
    """How many trainings ended in which way; those ways that there were.

    >>> counts_in_words({"complete": 3, "failed": 0, "pruned": 2})
    '3 complete, 2 stopped early'
    """
    return ", ".join(f"{count} {outcome_in_words(outcome)}" for outcome, count in counts.items() if count)


@dataclass(frozen=True)
class PhaseStarted:
    """A phase begins; ``total`` trials are to be finished in it and ``done`` already are (from an earlier start).

    ``ended`` says how many of these ended in which way, and ``best`` is their best score; ``notes`` are sentences that
    a user should read before: what the trial pruner will do, what does not go together. ``after`` is the work of the
    phases that follow, as far as it can be foreseen, in epochs of this one: a training of the full network counts as
    many as take its time. ``direction`` says which of two scores is the better.
    """

    phase: Phase
    total: int | None = None
    done: int = 0
    notes: tuple[str, ...] = ()
    best: float | None = None
    after: float = 0.0
    direction: Direction | None = None
    ended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseEnded:
    """A phase is over after ``seconds``; ``message`` says its result in one line."""

    phase: Phase
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class TrialStarted:
    """Training of trial ``number`` begins with these hyperparameters."""

    phase: Phase
    number: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class EpochEnded:
    """The train function reported ``score`` after ``epoch`` (counted from 1) of ``epochs``."""

    phase: Phase
    number: int
    epoch: int
    epochs: int
    score: float


@dataclass(frozen=True)
class TrialEnded:
    """Trial ``number`` is over; ``score`` is its last score, if it has one."""

    phase: Phase
    number: int
    outcome: Outcome
    score: float | None
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class OthersEnded:
    """Other workers finished ``count`` trials of the phase since the last event; ``best`` is the best score of all.

    ``ended`` says how many of them ended in which way.
    """

    phase: Phase
    count: int
    best: float | None
    ended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Notice:
    """Something that a person should know: a storage that is waited for, a worker that died."""

    message: str


@dataclass(frozen=True)
class Warned(Notice):
    """A notice of what is most likely a mistake in the user's own code."""


Event: TypeAlias = PhaseStarted | PhaseEnded | TrialStarted | EpochEnded | TrialEnded | OthersEnded | Notice
Observer: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """The observer that shows nothing; a likely mistake becomes a Python warning."""
    if isinstance(event, Warned):
        warn_caller(event.message.removeprefix("warning: "))
