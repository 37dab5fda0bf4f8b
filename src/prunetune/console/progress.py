"""Progress of a run on the terminal: live where there is one, plain lines elsewhere. Both are ``events.Observer``s."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from prunetune._utils.checks import BETTER, Direction
from prunetune.console.display import Display
from prunetune.events import (
    EpochEnded,
    Event,
    Notice,
    OthersEnded,
    Outcome,
    Phase,
    PhaseEnded,
    PhaseStarted,
    TrialEnded,
    TrialStarted,
    outcome_in_words,
)

TITLES: Final[dict[Phase, str]] = {
    "prune": "Cutting and timing",
    "check-proxy": "Checking: the proxy",
    "check-base": "Checking: the full network",
    "check-again": "Checking: the full network with another seed",
    "search": "Searching",
    "climb": "Climbing: the best again, with more",
    "confirm": "Training the best on the full network",
    "train": "Training the full network",
    "compare": "Comparing",
    "report": "Writing the report",
}

UNFINISHED: Final[tuple[Outcome, ...]] = ("pruned", "diverged", "failed")
QUIET_SECONDS: Final = 10.0  # how long plain progress says nothing while epochs go by


def duration(seconds: float) -> str:
    """Seconds as a person would say them.

    >>> duration(0.05), duration(7.2), duration(187), duration(7260)
    ('0.05 s', '7.2 s', '3 min 07 s', '2 h 01 min')
    """
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass
class Tally:
    """What is known of a phase while it runs, gathered from its events.

    ``clock`` returns seconds and is there to be replaced in tests.
    """

    clock: Callable[[], float] = time.monotonic
    phase: Phase | None = None
    total: int | None = None
    done: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    best: float | None = None
    trial: int | None = None
    epoch: int = 0
    epochs: int = 0
    after: float = 0.0
    direction: Direction | None = None
    _epochs_seen: int = field(default=0, repr=False)
    _started: float = field(default=0.0, repr=False)
    _finished: int = field(default=0, repr=False)

    def update(self, event: Event) -> None:
        """Take note of ``event``."""
        if isinstance(event, PhaseStarted):
            known = {name: getattr(event, name) for name in ("phase", "total", "done", "best", "after", "direction")}
            self.__dict__.update(Tally(self.clock, **known, ended=Counter(event.ended)).__dict__)
            self._started = self.clock()
        elif isinstance(event, TrialStarted):
            self.trial, self.epoch = event.number, 0
        elif isinstance(event, EpochEnded):
            self._epochs_seen += event.epoch - self.epoch
            self.trial, self.epoch, self.epochs = event.number, event.epoch, event.epochs
        elif isinstance(event, TrialEnded):
            self._end_trial(event)
        elif isinstance(event, OthersEnded):
            self.done += event.count
            self._finished += event.count
            self.ended.update(event.ended)
            self._compare(event.best)

    def _end_trial(self, event: TrialEnded) -> None:
        self.done += 1
        self._finished += 1
        self.epoch = 0
        self.ended[event.outcome] += 1
        if event.outcome == "complete":
            self._compare(event.score)

    def _compare(self, score: float | None) -> None:
        if score is not None and math.isfinite(score):
            better = min if self.direction == "minimize" else max
            self.best = score if self.best is None else better(self.best, score)

    def seconds_left(self) -> float | None:
        """The time that the rest of this phase takes at the pace so far; None before an epoch has ended."""
        running = self.epoch / self.epochs if self.epochs else 0.0
        if self.total is None or self._finished + running == 0:
            return None
        pace = (self.clock() - self._started) / (self._finished + running)
        return pace * max(0.0, self.total - self.done - running)

    def _epochs_take(self, epochs: float) -> float | None:
        """Seconds of so many epochs at the pace of this phase so far; None before one has ended."""
        return (self.clock() - self._started) / self._epochs_seen * epochs if self._epochs_seen else None

    def trial_seconds_left(self) -> float | None:
        """The time that the running trial takes if it is not stopped."""
        return self._epochs_take(self.epochs - self.epoch) if self.epoch else None

    def job_seconds_left(self) -> float | None:
        """The time left of this phase and of those that follow; None where nothing follows, or nothing is known yet."""
        phase, rest = self.seconds_left(), self._epochs_take(self.after)
        return phase + rest if self.after and phase is not None and rest is not None else None

    def line(self) -> str:
        """The state in a few words: best so far, trials that did not finish, time left."""
        parts = []
        if self.best is not None:
            parts.append(f"best {self.best:.4g}")
        parts += [f"{self.ended[each]} {outcome_in_words(each)}" for each in UNFINISHED if self.ended[each]]
        left = self.seconds_left()
        if left is not None and self.total is not None and self.done < self.total:
            job = self.job_seconds_left()
            parts.append(f"about {duration(left)} left" + ("" if job is None else f" (whole job: {duration(job)})"))
        return ", ".join(parts)


def trial_name(phase: Phase, number: int, tally: Tally, *, over: bool) -> str:
    """What a trial is called: by its number in the search, by its place in line on the full network."""
    place = tally.done if over else tally.done + 1
    if phase == "search":
        return f"trial {number} ({place} of {tally.total})" if over and tally.total else f"trial {number}"
    return f"training {place} of {tally.total}" if tally.total else f"training {place}"


class PlainProgress:
    """One line for each phase's begin and end, each trial, and now and then an epoch: for logs and pipes."""

    def __init__(self, console: Console, tally: Tally | None = None) -> None:
        self._console = console
        self._tally = tally or Tally()
        self._printed = self._tally.clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Print the line of ``event``, if it has one."""
        tally = self._tally
        tally.update(event)
        if isinstance(event, PhaseStarted):
            known = f": {event.total} {'trial' if event.total == 1 else 'trials'}" if event.total else ""
            kept = f", {event.done} done before" if event.done else ""
            better = f"; {BETTER[event.direction]}" if event.direction else ""
            self._print(f"{TITLES[event.phase]}{known}{kept}{better}")
            for note in event.notes:
                self._print(f"  {note}")
        elif isinstance(event, EpochEnded) and tally.clock() - self._printed > QUIET_SECONDS:
            name = trial_name(event.phase, event.number, tally, over=False)
            self._print(f"  {name}: {event.score:.4g} after epoch {event.epoch} of {event.epochs}{self._state()}")
        elif isinstance(event, TrialEnded):
            name = trial_name(event.phase, event.number, tally, over=True)
            score = "" if event.score is None else f" {event.score:.4g}"
            why = f", {event.message}" if event.message and event.outcome != "pruned" else ""
            took = f"in {duration(event.seconds)}"
            self._print(f"  {name}: {outcome_in_words(event.outcome)}{score} {took}{why}{self._state()}")
        elif isinstance(event, PhaseEnded):
            self._print(f"  {event.message or 'done'} ({duration(event.seconds)})")
        elif isinstance(event, Notice):
            self._print(f"  {event.message}")

    def _state(self) -> str:
        line = self._tally.line()
        return f"; {line}" if line else ""

    def _print(self, line: str) -> None:
        self._printed = self._tally.clock()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """A bar for the phase, a bar for the running trial's epochs, and a line of what is known so far; for terminals."""

    def __init__(self, console: Console, tally: Tally | None = None) -> None:
        self._console = console
        self._tally = tally or Tally()
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._live = Live(
            Group(self._bars, _Line(self._tally)),
            console=console,
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,  # ``Display`` does
            redirect_stderr=False,
        )
        self._phase: TaskID | None = None
        self._trial: TaskID | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        self._tally.update(event)
        if isinstance(event, PhaseStarted):
            self._phase = self._bars.add_task(TITLES[event.phase], total=event.total, count="")
            for note in event.notes:
                self._console.print(f"  {note}", markup=False, highlight=False)
        elif isinstance(event, PhaseEnded):
            self._end_phase()
            title = f"[green]✓[/] {TITLES[event.phase]} [dim]({duration(event.seconds)})[/]"
            self._console.print(title, highlight=False)
            if event.message:
                self._console.print(f"  {event.message}", markup=False, highlight=False)
        elif isinstance(event, TrialStarted):
            self._end_trial()
            name = trial_name(event.phase, event.number, self._tally, over=False)
            self._trial = self._bars.add_task(name, total=None, count="")
        elif isinstance(event, EpochEnded) and self._trial is not None:
            left = self._tally.trial_seconds_left()
            at_most = f", {duration(left)} left" if left else ""
            count = f"{event.epoch}/{event.epochs} epochs{at_most}"
            self._bars.update(self._trial, total=event.epochs, completed=event.epoch, count=count)
        elif isinstance(event, TrialEnded):
            self._end_trial()
        elif isinstance(event, Notice):
            self._console.print(f"  {event.message}", markup=False, highlight=False)
        if self._phase is not None:
            done, total = self._tally.done, self._tally.total
            self._bars.update(self._phase, completed=done, count=f"{done}/{total} trials" if total else "")

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._bars.remove_task(self._trial)
            self._trial = None

    def _end_phase(self) -> None:
        self._end_trial()
        if self._phase is not None:
            self._bars.remove_task(self._phase)
            self._phase = None


@dataclass(frozen=True)
class _Line:
    """The tally's line, made anew whenever the display is drawn."""

    tally: Tally

    def __rich__(self) -> Text:
        better = [BETTER[self.tally.direction]] if self.tally.direction else []
        return Text("  " + ", ".join([*filter(None, [self.tally.line()]), *better]), style="dim")


def show_progress(console: Console) -> Display:
    """The observer that suits ``console``; use it in a ``with`` statement."""
    live = console.is_terminal and not console.is_dumb_terminal
    return Display(console, LiveProgress(console) if live else PlainProgress(console), live=live)
