"""Progress: what is counted, what is estimated, what is shown on a terminal and in a log."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

import pytest
from rich.console import Console

from prunetune._utils.checks import Direction
from prunetune.console.progress import LiveProgress, PlainProgress, Tally, duration, show_progress
from prunetune.events import EpochEnded, Event, Notice, OthersEnded, PhaseEnded, PhaseStarted, TrialEnded, TrialStarted


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tally_of(events: Iterable[Event], clock: Clock | None = None) -> Tally:
    tally = Tally(clock or Clock())
    for event in events:
        tally.update(event)
    return tally


SEARCH: list[Event] = [
    PhaseStarted("search", total=5, done=1),
    TrialStarted("search", 1, {"learning_rate": 0.1}),
    EpochEnded("search", 1, 1, 2, 0.4),
    EpochEnded("search", 1, 2, 2, 0.8),
    TrialEnded("search", 1, "complete", 0.8, 10.0),
    TrialStarted("search", 2, {"learning_rate": 0.2}),
    EpochEnded("search", 2, 1, 2, 0.1),
    TrialEnded("search", 2, "pruned", 0.1, 5.0, "stopped after epoch 1 of 2"),
    TrialStarted("search", 3, {"learning_rate": 9.0}),
    TrialEnded("search", 3, "diverged", None, 1.0, "the score is nan after epoch 1"),
]


def test_trials_are_counted_by_how_they_ended() -> None:
    tally = tally_of([*SEARCH, TrialEnded("search", 4, "failed", None, 1.0, "ValueError: no")])
    assert (tally.done, tally.total) == (5, 5)
    assert tally.ended == {"complete": 1, "pruned": 1, "diverged": 1, "failed": 1}
    assert tally.line() == "best 0.8, 1 stopped early, 1 diverged, 1 failed"


def test_trials_of_an_earlier_start_and_of_others_are_counted_alike() -> None:
    """Two stopped before, one here, one elsewhere; one failed before."""
    resumed = PhaseStarted("search", total=9, done=4, best=0.7, ended={"complete": 1, "pruned": 2, "failed": 1})
    tally = tally_of([resumed, *SEARCH[1:], OthersEnded("search", 1, 0.8, {"pruned": 1})])
    assert (tally.done, tally.line().partition(", about")[0]) == (8, "best 0.8, 4 stopped early, 1 diverged, 1 failed")


def test_the_best_of_an_earlier_start_is_still_the_best() -> None:
    for direction, best in (("maximize", 0.9), ("minimize", 0.8)):
        resumed = [PhaseStarted("search", total=5, done=1, best=0.9, direction=direction), *SEARCH[1:]]
        assert tally_of(resumed).best == best


def test_trials_of_other_workers_count() -> None:
    tally = tally_of([*SEARCH[:-3], OthersEnded("search", 2, 0.9)])
    assert (tally.done, tally.best) == (4, 0.9)
    lower = PhaseStarted("search", total=5, done=1, direction="minimize")
    assert tally_of([lower, *SEARCH[1:-3], OthersEnded("search", 2, 0.9)]).best == 0.8
    assert tally_of([OthersEnded("search", 2, None)]).best is None


@pytest.mark.parametrize("kind", [PlainProgress, LiveProgress])
def test_a_notice_is_a_line(kind: type[PlainProgress | LiveProgress]) -> None:
    console = Console(file=io.StringIO(), force_terminal=kind is LiveProgress, width=200)
    with kind(console) as progress:
        for event in (*SEARCH[:3], Notice("the storage [x] is back")):
            progress(event)
    assert "  the storage [x] is back\n" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.9), ("minimize", 0.7)])
def test_the_best_is_of_complete_trials_in_the_direction_of_the_search(direction: Direction, best: float) -> None:
    ends = [(0.8, "complete"), (0.9, "complete"), (0.7, "complete"), (2.0, "pruned"), (-2.0, "pruned")]
    events = [TrialEnded("search", i, outcome, score, 1.0) for i, (score, outcome) in enumerate(ends)]  # type: ignore[arg-type]
    assert tally_of([PhaseStarted("search", total=5, direction=direction), *events]).best == best


def test_time_left_is_the_pace_so_far_times_what_is_left() -> None:
    """Trial 0 was done before. In 60 s: two trials and one of two epochs; 5 - 3 - 1/2 = 1.5 are left: 36 s."""
    clock = Clock()
    tally = tally_of(SEARCH[:8], clock)
    assert tally.done == 3
    clock.now += 60
    tally.update(EpochEnded("search", 3, 1, 2, 0.5))
    assert tally.seconds_left() == pytest.approx(60 / 2.5 * 1.5)
    assert "about 36.0 s left" in tally.line()


def test_the_whole_job_is_this_phase_and_what_follows() -> None:
    """As above, four epochs in 60 s by then; what follows takes as long as 20 more: 300 s. A trial's last one: 15 s."""
    clock = Clock()
    tally = tally_of([PhaseStarted("search", total=5, done=1, after=20.0), *SEARCH[1:8]], clock)
    clock.now += 60
    tally.update(EpochEnded("search", 3, 1, 2, 0.5))
    assert tally.trial_seconds_left() == pytest.approx(15)
    assert tally.job_seconds_left() == pytest.approx(36 + 300)
    assert tally.line().endswith("about 36.0 s left (whole job: 5 min 36 s)")


def test_where_nothing_follows_there_is_no_whole_job() -> None:
    assert tally_of(SEARCH[:3]).job_seconds_left() is None
    assert tally_of([PhaseStarted("search", total=5, after=20.0)]).job_seconds_left() is None


def test_nothing_is_estimated_before_anything_has_ended() -> None:
    assert tally_of(SEARCH[:2]).seconds_left() is None
    assert tally_of([PhaseStarted("prune")]).seconds_left() is None


def test_a_new_phase_begins_anew() -> None:
    tally = tally_of([*SEARCH, PhaseStarted("confirm", total=3)])
    assert (tally.phase, tally.done, tally.total, tally.best, tally.ended) == ("confirm", 0, 3, None, {})


def printed(events: Iterable[Event], *, terminal: bool, clock: Clock | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, _environ={"TERM": "xterm"})
    observer = (LiveProgress if terminal else PlainProgress)(console, Tally(clock=clock or Clock()))
    with observer:
        for event in events:
            observer(event)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())  # without colours and cursor movements


def test_a_log_has_a_line_a_trial() -> None:
    lines = printed([*SEARCH, PhaseEnded("search", 16.0, "best 0.8 (trial 1)")], terminal=False).splitlines()
    assert lines == [
        "Searching: 5 trials, 1 done before",
        "  trial 1 (2 of 5): complete 0.8 in 10.0 s; best 0.8, about 0 s left",
        "  trial 2 (3 of 5): stopped early 0.1 in 5.0 s; best 0.8, 1 stopped early, about 0 s left",
        (
            "  trial 3 (4 of 5): diverged in 1.0 s, the score is nan after epoch 1; "
            "best 0.8, 1 stopped early, 1 diverged, about 0 s left"
        ),
        "  best 0.8 (trial 1) (16.0 s)",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_notes_come_before_the_trials(terminal: bool) -> None:
    notes = ("hyperband: 1 bracket", "warning: [gp] learns nothing")
    shown = printed([PhaseStarted("search", 5, notes=notes), *SEARCH[1:3]], terminal=terminal)
    assert "  hyperband: 1 bracket" in shown
    assert "  warning: [gp] learns nothing" in shown


def test_a_log_tells_of_an_epoch_when_nothing_else_happened_for_long() -> None:
    clock = Clock()

    def events() -> Iterable[Event]:
        yield PhaseStarted("confirm", total=2)
        yield TrialStarted("confirm", 0, {})
        clock.now += 4
        yield EpochEnded("confirm", 0, 1, 9, 0.3)
        clock.now += 11
        yield EpochEnded("confirm", 0, 2, 9, 0.5)

    lines = printed(events(), terminal=False, clock=clock).splitlines()
    assert lines == [
        "Training the best on the full network: 2 trials",
        "  training 1 of 2: 0.5 after epoch 2 of 9; about 2 min 00 s left",  # 15 s for 2/9 of 2 trainings: 16/9 left
    ]


def test_a_terminal_shows_phase_trial_epoch_and_state() -> None:
    shown = printed(SEARCH[:-1], terminal=True)
    for part in ("Searching", "3/5 trials", "trial 3", "best 0.8", "1 stopped early"):
        assert part in shown


def test_a_terminal_keeps_the_result_of_a_phase() -> None:
    shown = printed([*SEARCH, PhaseEnded("search", 16.0, "best [0.8]")], terminal=True)
    assert "Searching" in shown
    assert "best [0.8]" in shown


def test_the_console_decides() -> None:
    def console(*, terminal: bool, term: str = "xterm") -> Console:
        return Console(file=io.StringIO(), force_terminal=terminal, _environ={"TERM": term})

    assert isinstance(show_progress(console(terminal=True)).progress, LiveProgress)
    assert isinstance(show_progress(console(terminal=False)).progress, PlainProgress)
    assert isinstance(show_progress(console(terminal=True, term="dumb")).progress, PlainProgress)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "0.012 s"), (59.94, "59.9 s"), (59.97, "1 min 00 s"), (3599.6, "1 h 00 min"), (90061, "25 h 01 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
