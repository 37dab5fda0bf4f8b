"""Workers of one study: who may start a trial, who is dead, what comes once more, and what Ctrl-C waits for."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from prunetune._utils.interrupts import uninterrupted
from prunetune.backends import Float, Int, SearchSpace
from prunetune.backends.study.attributes import BEAT, OWNER
from prunetune.backends.study.chunked_attributes import PIECE, read_text, write_text
from prunetune.backends.study.claims import RETRIES, Claims
from prunetune.backends.study.heartbeat import Heartbeat, HeartbeatMonitor, _start_of, beating, is_dead, this_process
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, finished_trials, open_study, outcome
from prunetune.backends.study.trial import Report
from prunetune.events import Event, Notice, OthersEnded, TrialEnded, silent

pytestmark = pytest.mark.filterwarnings("error")

SPACE = SearchSpace({"x": Float(0, 1)})
SETTINGS = StudySettings(SPACE, epochs=3, optimizer="random", trial_pruner="none")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    with open_study(f"sqlite:///{tmp_path}/s.db", "search", SETTINGS) as opened:
        yield opened


def claims_of(study: optuna.Study, events: list[Event] | None = None, clock: Clock | None = None) -> Claims:
    observer = silent if events is None else events.append
    return Claims(
        study,
        SPACE.to_optuna(),
        observer,
        HeartbeatMonitor(Heartbeat(10, 60), clock or Clock()),
        "search",
        RETRIES,
        set(),
    )


def elsewhere(study: optuna.Study, number: int) -> None:
    """Make the trial one of a process on another machine."""
    trial_id = study.trials[number]._trial_id
    study._storage.set_trial_system_attr(trial_id, OWNER, {"host": "far", "space": "another", "pid": 1, "started": "1"})


def gone() -> dict[str, Any]:
    """A process of this machine that was there and is not any more."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = {**this_process(), "pid": child.pid, "started": _start_of(child.pid)}
    assert not is_dead(owner)
    child.kill()
    child.communicate()
    return owner


# Signs of life


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="without /proc a process number may have been given anew")
def test_a_process_is_dead_if_it_is_gone_or_its_number_is_another_ones() -> None:
    me = this_process()
    assert not is_dead(me)
    assert is_dead({**me, "started": "1"})
    assert not is_dead({**me, "space": "another machine", "pid": 2**22 - 1})
    assert not is_dead({})
    assert is_dead(gone())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only /proc says that a process is a zombie")
def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    owner = {**this_process(), "pid": child.pid, "started": _start_of(child.pid)}
    while _start_of(child.pid) != "gone":  # it ends, and nobody has asked how yet
        time.sleep(0.01)
    assert is_dead(owner)
    child.wait()


def test_silence_is_noticed_after_a_minute_and_no_clock_is_compared(study: optuna.Study) -> None:
    study.ask()
    elsewhere(study, 0)
    clock = Clock()
    monitor = HeartbeatMonitor(Heartbeat(beat=10, stale=60), clock)
    trial_id = study.trials[0]._trial_id
    seen = []
    for second in range(0, 200, 5):
        clock.now = 1e6 + second
        if second == 50:
            study._storage.set_trial_system_attr(trial_id, BEAT, 1)
        seen += [second for trial in monitor.dead(study.trials)]
    assert seen[0] == 110  # 60 after the last sign


def test_one_long_look_away_is_no_silence(study: optuna.Study) -> None:
    """An hour between two looks, in which the storage may have been gone, counts for two beats."""
    study.ask()
    elsewhere(study, 0)
    clock = Clock()
    monitor = HeartbeatMonitor(Heartbeat(beat=10, stale=60), clock)
    for look in range(3):
        clock.now = look * 3600.0
        assert monitor.dead(study.trials) == []
    clock.now = 3 * 3600.0
    assert [trial.number for trial in monitor.dead(study.trials)] == [0]


def test_beats_are_counted_up_while_a_trial_runs(study: optuna.Study) -> None:
    trial = study.ask()
    with beating(study._storage, trial._trial_id, Heartbeat(beat=0.02, stale=1)):
        deadline = time.monotonic() + 10
        while study.trials[0].system_attrs.get(BEAT, 0) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    count = study.trials[0].system_attrs[BEAT]
    assert count >= 3
    time.sleep(0.1)
    assert study.trials[0].system_attrs[BEAT] == count
    assert "prunetune-beat" not in [thread.name for thread in threading.enumerate()]


# What the dead leave


def test_the_hyperparameters_of_the_dead_come_again_twice_at_most(study: optuna.Study) -> None:
    events: list[Event] = []
    claims = claims_of(study, events)
    owner = gone()
    for number in range(RETRIES + 2):
        trial = study.ask(SPACE.to_optuna())
        study._storage.set_trial_system_attr(trial._trial_id, OWNER, owner)
        assert trial.number == number
        assert claims.is_room_for_one(lambda: 5)
    *trials, waiting = study.trials
    assert [outcome(trial) for trial in trials] == ["interrupted"] * (RETRIES + 2)
    assert (waiting.state, waiting.user_attrs) == (TrialState.WAITING, {"retry_of": RETRIES + 1, "retry": 1})
    points = [trial.params["x"] for trial in trials]
    assert points[: RETRIES + 1] == [points[0]] * (RETRIES + 1)
    assert points[-1] != points[0]
    notices = [event.message for event in events if isinstance(event, Notice)]
    who = f"process {owner['pid']} on {owner['host']} is gone"
    assert notices[0] == f"trial 0 is given up: {who}; its hyperparameters are tried again"
    assert notices[RETRIES] == f"trial {RETRIES} is given up: {who}; they are not tried again"


def test_a_trial_of_an_owner_that_is_unknown_is_given_up_in_time(study: optuna.Study) -> None:
    """A process may die between being given a trial that was waiting and signing it."""
    study.enqueue_trial({"x": 0.5})
    study.ask(SPACE.to_optuna())
    clock = Clock()
    claims = claims_of(study, clock=clock)
    for second in range(0, 70, 10):
        assert outcome(study.trials[0]) is None
        clock.now = second
        claims.is_room_for_one(lambda: 5)
    assert outcome(study.trials[0]) == "interrupted"
    assert study.trials[1].state == TrialState.WAITING


def test_one_that_was_given_up_too_soon_gives_its_result_up(study: optuna.Study, tmp_path: Path) -> None:
    """As after a suspended machine: the trial is not counted twice, and its train function is stopped."""
    events: list[Event] = []
    reached: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        if report.number == 0:
            elsewhere(study, 0)
            with open_study(f"sqlite:///{tmp_path}/s.db", "search", SETTINGS) as others:
                other = claims_of(others)
                other._give_up(others.trials[0])
            report(0.5, 1)
            reached.append(0)
        return float(params["x"])

    ran = run_trials(study, objective, SETTINGS, n_trials=2, observer=events.append)
    assert ran == 2
    assert reached == []
    assert [outcome(trial) for trial in study.trials] == ["interrupted", "complete", "complete"]
    assert study.trials[1].params == study.trials[0].params
    (notice,) = [event.message for event in events if isinstance(event, Notice)]
    assert notice.startswith("trial 0 was given up by another worker, to which this process seemed dead; its result is")
    assert [event.number for event in events if isinstance(event, TrialEnded)] == [1, 2]


def test_one_that_was_given_up_while_it_was_claimed_is_left(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a machine is suspended before the trial has its hyperparameters: the worker goes on with the next."""
    set_param = study._storage.set_trial_param

    def suspended(trial_id: int, *arguments: Any) -> None:
        monkeypatch.undo()
        elsewhere(study, 0)
        with open_study(f"sqlite:///{tmp_path}/s.db", "search", SETTINGS) as others:
            claims_of(others)._give_up(others.trials[0])
        set_param(trial_id, *arguments)

    monkeypatch.setattr(study._storage, "set_trial_param", suspended)
    assert run_trials(study, lambda params, report: float(params["x"]), SETTINGS, n_trials=2) == 2
    assert [outcome(trial) for trial in study.trials] == ["interrupted", "complete", "complete"]


def test_who_finished_first_has_it(study: optuna.Study) -> None:
    """A trial that another worker was about to give up, and that came to its end a moment before, is complete."""
    trial = study.ask(SPACE.to_optuna())
    seen = study.trials[0]
    study._storage.set_trial_user_attr(trial._trial_id, "given_up", True)
    study.tell(trial, 0.5)
    claims_of(study)._give_up(seen)
    assert [outcome(trial) for trial in study.trials] == ["complete"]


DEATHS = ("before it had hyperparameters", "between two of them", "in its training", "and nobody queued it", "twice")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("given", [{}, {"x": 0.25}, {"x": 0.25, "y": 0.75}])
def test_whatever_a_worker_died_in_each_point_is_finished_once(
    given: dict[str, float], death: str, kind: str, tmp_path: Path
) -> None:
    """The points are those of a search in which nobody died; the first may be one that was given."""
    space = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})
    settings = StudySettings(space, epochs=3, optimizer="random", trial_pruner="none")

    def points(name: str, prepare: Callable[[optuna.Study], object]) -> list[tuple[float, ...]]:
        url = f"journal://{tmp_path}/{name}" if kind == "journal" else f"sqlite:///{tmp_path}/{name}"
        with open_study(url, "search", settings) as study:
            if given:
                study.enqueue_trial(given)
            prepare(study)
            run_trials(study, lambda params, report: float(params["x"]), settings, n_trials=5)
            return sorted(tuple(trial.params.values()) for trial in finished_trials(study))

    assert points("died", lambda study: die(study, death, space)) == points("lived", lambda study: None)


def die(study: optuna.Study, death: str, space: SearchSpace) -> None:
    trial = study.ask()
    study._storage.set_trial_system_attr(trial._trial_id, OWNER, {**this_process(), "started": "1"})
    names = {"before it had hyperparameters": [], "between two of them": ["x"]}.get(death, ["x", "y"])
    for name in names:
        trial.suggest_float(name, 0, 1)
    if death in ("and nobody queued it", "twice"):
        study._storage.set_trial_user_attr(trial._trial_id, "given_up", True)
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    if death == "twice":  # two have looked in the same moment, and queued it both
        for _ in range(2):
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "retry": 1})


def test_who_cannot_know_whether_he_gave_it_up_himself_queues_it_once(study: optuna.Study) -> None:
    """The storage was gone when it was told, and when it is back the trial is over: another did it meanwhile."""
    trial = study.ask(SPACE.to_optuna())
    study._storage.set_trial_system_attr(trial._trial_id, OWNER, {**this_process(), "started": "1"})
    real = study._storage._storage  # type: ignore[attr-defined]
    lost: list[bool] = []
    tell = real.set_trial_state_values

    def unheard(trial_id: int, state: TrialState, values: Any = None) -> bool:
        if not lost:
            lost.append(True)
            monkey.undo()
            claims_of(study).is_room_for_one(lambda: 5)
            raise ConnectionError("gone")
        return bool(tell(trial_id, state, values))

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(real, "set_trial_state_values", unheard)
        claims_of(study).is_room_for_one(lambda: 5)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_point_of_a_small_space_that_two_workers_chose_in_the_same_moment_is_tried_once(tmp_path: Path) -> None:
    space = SearchSpace({"x": Int(1, 4)})
    settings = StudySettings(space, epochs=1, optimizer="random", trial_pruner="none")
    seen: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        seen.append(params["x"])
        return 0.5

    with open_study(f"sqlite:///{tmp_path}/s.db", "search", settings) as study:
        run_trials(study, objective, settings, n_trials=1, distinct=True)
        for _ in range(2):  # each in place of a point that was drawn twice
            study.enqueue_trial({"x": seen[0] % 4 + 1}, user_attrs={"instead_of": 0})
        run_trials(study, objective, settings, n_trials=9, distinct=True)
    assert sorted(seen) == [1, 2, 3, 4]


@pytest.mark.parametrize("asked", [False, True])
def test_a_point_that_came_twice_and_whose_worker_died_before_it_was_seen_is_tried_once(
    asked: bool, tmp_path: Path
) -> None:
    """Unless somebody has asked for it: what was enqueued is as it is."""
    space = SearchSpace({"x": Int(1, 3)})
    settings = StudySettings(space, epochs=1, optimizer="random", trial_pruner="none")
    seen: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        seen.append(params["x"])
        return 0.5

    with open_study(f"sqlite:///{tmp_path}/s.db", "search", settings) as study:
        run_trials(study, objective, settings, n_trials=1, distinct=True)
        (point,) = seen
        dead = {OWNER: {**this_process(), "started": "1"}, **({"fixed_params": {"x": point}} if asked else {})}
        study.add_trial(
            optuna.create_trial(
                state=TrialState.RUNNING, params={"x": point}, distributions=space.to_optuna(), system_attrs=dead
            )
        )
        run_trials(study, objective, settings, n_trials=9, distinct=True)
    assert sorted(seen) == sorted([1, 2, 3, *([point] if asked else [])])


# How many


def test_one_too_many_withdraws(study: optuna.Study) -> None:
    """Of two that saw the last place free, the one with the higher number has come too late."""
    claims = claims_of(study)
    first, second = (claims.claim(lambda: 2) for _ in range(2))
    assert first is not None
    assert second is not None
    assert claims.claim(lambda: 2) is None
    assert outcome(study.trials[2]) is None
    assert study.trials[2].state == TrialState.FAIL
    study.tell(first, 0.5)
    study.tell(second, 0.5)
    assert not claims.is_room_for_one(lambda: 2)
    assert claims.is_room_for_one(lambda: 3)
    assert len(finished_trials(study)) == 2


def test_others_are_waited_for_and_their_trials_are_told_of(study: optuna.Study) -> None:
    trial = study.ask(SPACE.to_optuna())
    events: list[Event] = []

    def observe(event: Event) -> None:
        events.append(event)
        if isinstance(event, Notice):  # the other one takes until this one has said that it waits
            study.tell(trial, 0.75)

    assert run_trials(study, lambda params, report: 0.5, SETTINGS, n_trials=2, observer=observe) == 1
    me = this_process()
    waiting = f"waiting for trial 0 of process {me['pid']} on {me['host']}"
    assert [event for event in events if isinstance(event, Notice | OthersEnded)] == [
        Notice(waiting),
        OthersEnded("search", 1, 0.75, {"complete": 1}),
    ]


def test_a_search_may_be_made_longer_while_it_runs(study: optuna.Study) -> None:
    asked = [1]

    def objective(params: dict[str, Any], report: Report) -> float:
        asked[0] = 3
        return 0.5

    assert run_trials(study, objective, SETTINGS, n_trials=lambda: asked[0]) == 3
    assert len(finished_trials(study)) == 3


# Signals


@contextmanager
def handling(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_effect_when_what_is_written_is_written(number: int) -> None:
    written: list[int] = []

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def write(signals: int) -> None:
        with uninterrupted():
            for _ in range(signals):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            written.append(signals)

    with handling(number, stop):
        for signals in (1, 2):  # a second one is not waited for
            with pytest.raises(KeyboardInterrupt):
                write(signals)
        assert signal.getsignal(number) is stop
    assert written == [1]


def test_ctrl_c_while_a_result_is_recorded_loses_nothing(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = optuna.Study.tell

    def interrupted(self: optuna.Study, *args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return tell(self, *args, **options)

    monkeypatch.setattr(optuna.Study, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_trials(study, lambda params, report: 0.5, SETTINGS, n_trials=3)
    assert [outcome(trial) for trial in study.trials] == ["complete"]


# Long texts


@pytest.mark.parametrize("length", [0, 10, 5 * PIECE])
def test_texts_come_back_whole(study: optuna.Study, length: int) -> None:
    text = os.urandom(length).hex() + "é\n"
    assert read_text(study, "plan") is None
    write_text(study, "plan", text)
    assert read_text(study, "plan") == text
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert max(len(str(value)) for value in attributes.values()) < 2**15
    assert not any(key.startswith("plan") for key in study.user_attrs)  # which a dashboard shows
    study._storage.set_study_system_attr(study._study_id, "plan:0", "damaged")
    assert read_text(study, "plan") is None


def test_texts_are_read_where_version_0_1_0_put_them(study: optuna.Study) -> None:
    study.set_user_attr("plan:0", base64.b85encode(zlib.compress(b"{}")).decode())
    study.set_user_attr("plan", 1)
    assert read_text(study, "plan") == "{}"
    write_text(study, "plan", "[]")
    assert read_text(study, "plan") == "[]"
