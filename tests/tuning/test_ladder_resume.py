"""Ladders that were stopped or killed on any rung, made longer, or damaged; and time budgets, on a clock of our own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors.torch import load_file
from torch import nn

from prunetune.backends.study.attributes import ORDER
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder, Rung
from prunetune.tuning.tuner import Pruning, Search
from tiny_ladder import MAXIMIZE, SMALL, STEPS, Trainings, climb, make_quick, points
from tiny_tune import never, read_record, tiny_tune, train, width

pytestmark = pytest.mark.filterwarnings("error")
RATES = (0.3, 0.1, 0.4, 0.2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def scores(record: dict[str, Any]) -> list[Any]:
    """What was trained above the first rung and how it ended, by rung, interrupted ones left out."""
    between = [(each["params"], each["score"]) for each in record["climbs"][0]["trained"] if each["score"] is not None]
    top = [(each["params"], each["base_score"]) for each in record["confirmation"] if each["base_score"] is not None]
    return [between, top]


def test_stopped_on_every_rung_it_comes_to_the_same(tmp_path: Path) -> None:
    """Before the third training of the first rung, the second of the next, and the full network's; all else once."""
    first = Trainings()
    whole = climb(tmp_path / "whole", first)
    trained = Trainings()
    for stop_before in (3, 6, 7):
        trained.stop_before = stop_before
        with pytest.raises(KeyboardInterrupt):
            climb(tmp_path / "stopped", trained)
    trained.stop_before = None
    result = climb(tmp_path / "stopped", trained)
    assert sorted(trained.made) == sorted(first.made)
    assert [wide for wide, _, _ in trained.made] == [2, 2, 2, 2, 4, 4, 16]
    assert (result.params, result.score) == (whole.params, whole.score)
    assert [sorted(each, key=str) for each in scores(result.record)] == [
        sorted(each, key=str) for each in scores(whole.record)
    ]
    assert result.record["ladder"]["plan"] == whole.record["ladder"]["plan"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_on_every_rung_it_trains_nothing_twice_and_counts_the_time(tmp_path: Path) -> None:
    """Of every training that is killed there are 2.5 s, which the record learns of from the file that was touched."""
    log, run_dir = tmp_path / "log", tmp_path / "run"

    def noted(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        with log.open("a") as file:
            file.write(f"{width(model)} {params['lr']}\n")
        number = len(log.read_text().splitlines())
        if number in (2, 6, 9):  # the second of the first rung, the first of the next, the first of the last
            time.sleep(2.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return train(model, params, report)

    for _ in range(3):
        if not (child := os.fork()):
            with contextlib.suppress(BaseException):
                climb(run_dir, noted, **points(*RATES))
            os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    result = climb(run_dir, noted, **points(*RATES))
    narrow = ["2 0.3", "2 0.1", "2 0.1", "2 0.4", "2 0.2"]  # what was killed comes again
    assert sorted(log.read_text().splitlines()) == sorted([*narrow, "4 0.4", "4 0.4", "4 0.3", "16 0.4", "16 0.4"])
    assert result.params["lr"] == 0.4
    assert result.record["time"]["total"] > 3 * 1.4
    assert not (run_dir / "alive").exists()


def test_a_larger_budget_goes_on_and_adds(tmp_path: Path) -> None:
    """With 1.2 there is one rung below the full network, later there are rungs with networks that it never had."""
    trained = Trainings()
    search = Search(**{**vars(MAXIMIZE), "n_trials": 8})
    small = climb(tmp_path, trained, budget=1.2, search=search).record
    before = [*trained.made]
    assert {wide for wide, _, _ in before} == {2, 16}
    large = climb(tmp_path, trained, budget=3, search=search).record
    assert len(large["ladder"]["rungs"]) > len(small["ladder"]["rungs"])
    assert 4 in {wide for wide, _, _ in trained.made}
    assert len(set(trained.made)) == len(trained.made)
    assert large["n_trials"] == trained.made.count(trained.made[0]) * len(trained.rates(2)) == 8
    assert large["winner"]["score"] == max(each["base_score"] for each in large["confirmation"])
    assert climb(tmp_path, never, budget=3, search=search).already_finished
    for other, sentence in (
        (
            {"budget": 2},
            "started with a budget in full trainings of 3.0, now it is 2.0; continue it with the same or m",
        ),
        ({"budget": "3h"}, "started with a budget in full trainings of 3.0, now it is none"),
        ({"ladder": "paper", "budget": 3}, "started with the ladder 'default', now it is 'paper'"),
        ({"ladder": SMALL, "search": MAXIMIZE}, "now it is 4 × 1/8 of the width, 1/3 of the epochs → 2 × 1/4 of the"),
        ({"budget": 3, "search": Search(**{**vars(MAXIMIZE), "n_trials": 7})}, "started with search.n_trials 8, now i"),
        (
            {"search": Search(**{**vars(MAXIMIZE), "confirm": 2})},
            "started with the ladder 'default', now it is 'paper'",
        ),
        ({"budget": 3, "search": search, "epochs": 4}, "started with epochs = 3, now it is 4"),
    ):
        with pytest.raises(InputError, match=sentence):
            climb(tmp_path, never, **{"ladder": None, "search": search, **other})


def test_a_run_of_two_rungs_goes_on_with_more_of_the_same_and_with_nothing_else(tmp_path: Path) -> None:
    trained = Trainings(stop_before=4)
    asked = Search(direction="maximize", n_trials=5, confirm=2, optimizer="random", trial_pruner="none")
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, trained, search=asked, pruning=Pruning())
    trained.stop_before = None
    for search, budget, sentence in (
        (MAXIMIZE, None, "started with the ladder 'paper', now it is 'default'"),
        (asked, 3, "started with a budget in full trainings of none, now it is 3.0"),
        (replace(asked, confirm=1), None, "started with search.confirm 2, now it is 1"),
        (replace(asked, n_trials=None), None, "started with search.n_trials 5, now it is none"),
    ):
        with pytest.raises(InputError, match=sentence):
            tiny_tune(tmp_path, never, search=search, pruning=Pruning(), budget=budget, resume="anyway")
    more = replace(asked, n_trials=6, confirm=3)
    record = tiny_tune(tmp_path, trained, search=more, pruning=Pruning(), resume="anyway").record
    assert (record["n_trials"], record["confirm"], len(record["confirmation"])) == (6, 3, 3)
    assert [rung["entrants"] for rung in record["ladder"]["rungs"]] == [6, 3]
    assert len(trained.made) == 6 + 3


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("ladder", "plan"), None),
        (("ladder", "plan", "ladder"), []),
        (("ladder", "plan", "ladder", 0, "trials"), -1),
        (("ladder", "plan", "prices"), [1.0]),
        (("ladder", "plan", "prices", 0), 0.0),
        (("ladder", "plan", "reasons"), 3),
        (("ladder", "costs"), {}),
        (("ladder", "costs", "steps", 0, "ratio"), "é"),
        (("ladder", "asked"), {}),
        (("ladder", "networks"), []),
        (("ladder", "networks", 0, "file"), None),
        (("ladder", "full_seconds"), -1.0),
        (("ladder", "rungs"), [None]),
        (("climbs"), {"a": []}),
        (("climbs", 0, "trained"), None),
        (("climbs", 0, "trained", 0, "trial"), "é"),
    ],
)
def test_a_damaged_record_is_one_sentence(stopped: Path, keys: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    for name in os.listdir(stopped):
        (tmp_path / name).write_bytes((stopped / name).read_bytes())
    record = read_record(tmp_path)
    at: Any = record
    path = (keys,) if isinstance(keys, str) else keys
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (tmp_path / "result.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"result.json is damaged \(.*\); choose another run folder"):
        climb(tmp_path, never, **points(*RATES))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped before its last training."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        make_quick(patched)
        with pytest.raises(KeyboardInterrupt):
            climb(folder, Trainings(stop_before=7), **points(*RATES))
    return folder


def test_a_network_that_was_changed_or_is_gone_is_one_sentence(stopped: Path, tmp_path: Path) -> None:
    for name in os.listdir(stopped):
        (tmp_path / name).write_bytes((stopped / name).read_bytes())
    (tmp_path / "plan-0.25.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"plan-0.25.json is missing or was changed since the run began; choose an"
        ):
            climb(tmp_path, never, **points(*RATES))
        (tmp_path / "plan-0.25.json").unlink(missing_ok=True)


class Clock:
    """Seconds that pass in trainings only: those of the full network take ``full``, others their share."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, full: float = 100.0) -> None:
        self.now, self.full, self.slow_from, self.starts = 0.0, full, 10**9, [0.0]
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def training(self, then: Callable[..., float] = train) -> Callable[..., float]:
        """A train function that takes its time; twice as long from the training ``slow_from`` on."""
        shares = {2: STEPS["0.125"], 4: STEPS["0.25"], 8: STEPS["0.5"], 16: 1.0}

        def timed(model: nn.Module, params: dict[str, Any], report: Report) -> float:
            takes = self.full * shares[width(model)] * report.epochs / 3
            self.now += takes * (2 if len(self.starts) > self.slow_from else 1)
            self.starts.append(self.now)
            return then(model, params, report)

        return timed


@pytest.mark.parametrize(("trainings", "slow_from"), [(1.5, 10**9), (2.5, 10**9), (3.0, 8)])
def test_a_time_budget_is_kept_with_a_trained_winner(
    trainings: float, slow_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long trainings take, and where the machine is busy from the eighth on: twice as long for the same."""
    clock = Clock(monkeypatch)
    clock.slow_from = slow_from
    seconds = trainings * clock.full
    result = climb(
        tmp_path, clock.training(), budget=f"{seconds:g}s", search=Search(**{**vars(MAXIMIZE), "n_trials": 9})
    )
    assert clock.now <= 1.1 * seconds
    assert result.record["confirmation"][-1]["base_score"] == result.score
    assert result.record["ladder"]["full_seconds"] == pytest.approx(clock.full * (2 if slow_from < 99 else 1), rel=0.5)
    assert climb(
        tmp_path, never, budget=f"{seconds:g}s", search=Search(**{**vars(MAXIMIZE), "n_trials": 9})
    ).already_finished


def test_less_than_a_training_is_refused_after_the_first_trials_and_the_least_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial takes 100 x 0.08 / 3 = 2.67 s, the first 3 s more, since much is done in it once.

    By it alone a full training would take 212 s. After three 11 s are over, and two of them would have done, so the
    least is 11 - 2.67 + 100 and the 3 % that are kept: 108.3 / .97 = 111.7. That a full training takes its 100 s is
    sure, since its 3 x 10^9 steps of 1 s would take longer.
    """
    clock = Clock(monkeypatch)
    calls = Trainings()

    def warming_up(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        clock.now += 3 if not calls.made else 0
        return calls(model, params, report)

    with pytest.raises(
        InputError, match="the budget is 100 s, but a full training .* at least 100 s .* the least is about 112 s"
    ):
        climb(tmp_path, clock.training(warming_up), budget="100s", steps_per_epoch=10**9)
    assert calls.rates(2) == [rate for _, _, rate in calls.made]
    assert len(calls.made) == 3
    result = climb(tmp_path, clock.training(warming_up), budget="112s", steps_per_epoch=10**9)
    assert clock.now < 112
    assert len(calls.rates(2)) == 3
    assert result.record["winner"]["score"] > 16


def test_where_nobody_knows_the_steps_a_full_training_may_take_a_quarter_of_what_it_seems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial takes 2.67 s, by which a full training takes 100 s, and 25 s at the least.

    A tenth of 20 s is over after the first, by which alone nothing is judged. With a second and a full training it is
    (5.33 + 25) / .97, which is 31.3.
    """
    clock = Clock(monkeypatch)
    calls = Trainings()
    with pytest.raises(InputError, match="the budget is 20 s, .* at least 25 s .* the least is about 32 s"):
        climb(tmp_path, clock.training(calls), budget="20s")
    assert len(calls.made) == 2
    record = climb(tmp_path, clock.training(calls), budget="40s").record
    assert [wide for wide, _, _ in calls.made] == [2, 2, 16]
    assert record["winner"]["score"] > 16


def test_time_that_is_left_buys_a_larger_ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings take ten times as long until the first of the full network, and 100 s of a full one from then on.

    By the first trials a full training takes 1,000 s, so that 1,300 s are a plan for little more than one. It ends long
    before, and the rest pays for far more than the default ladder with its 64, which costs 4.2 of 100 s each.
    """
    clock = Clock(monkeypatch)
    calls, heard = Trainings(), []

    def busy_at_first(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        share = {2: STEPS["0.125"], 4: STEPS["0.25"], 8: STEPS["0.5"], 16: 1.0}[width(model)] * report.epochs / 3
        wide = any(each == 16 for each, _, _ in calls.made) or width(model) == 16
        clock.now += 100.0 * share * (1 if wide else 10)
        return calls(model, params, report)

    record = climb(tmp_path, busy_at_first, budget="1300s", observer=heard.append).record
    first = [wide for wide, _, _ in calls.made].index(16)
    assert first < 20
    assert len(calls.rates(2)) > 64
    assert 0.7 * 1300 < clock.now <= 1300
    assert any(" s are left, since trainings took less than it seemed" in str(event) for event in heard)
    assert record["winner"]["score"] == max(each["base_score"] for each in record["confirmation"])
    again = climb(tmp_path, never, budget="1300s")
    assert again.already_finished


def test_time_that_buys_nothing_leaves_the_record_as_it_was_climbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is trained for which the planner sees a use, and most of the time is left."""
    clock = Clock(monkeypatch, full=1e-2)
    record = climb(
        tmp_path, clock.training(), budget="9999s", search=Search(**{**vars(MAXIMIZE), "n_trials": 9})
    ).record
    rungs, climbs = record["ladder"]["rungs"], record["climbs"]
    trained = [sum(record["search"]["trials"].values()), *(len(each["trained"]) for each in climbs)]
    assert [rung["entrants"] for rung in rungs[:-1]] == trained
    assert all(each["agreement"] is not None for each in climbs)


def test_a_first_trial_without_a_score_says_nothing_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)

    def flaky(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if report.number == 0 and width(model) == 2:
            raise ValueError("out of memory")
        return train(model, params, report)

    climb(tmp_path, clock.training(flaky), budget="150s")
    assert 100 < clock.now < 165


def test_what_is_trained_stays_in_the_plan_where_a_timed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its last training, for which there is just the time: the rungs below are over."""
    clock = Clock(monkeypatch)
    search = Search(**{**vars(MAXIMIZE), "n_trials": 9})

    def stopped(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if width(model) == 16:
            clock.now -= clock.full
            raise KeyboardInterrupt
        return train(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        climb(tmp_path, clock.training(stopped), budget="250s", search=search)
    before = read_record(tmp_path)["ladder"]["plan"]
    assert len(before["ladder"]) > 2
    calls = Trainings()
    climb(tmp_path, clock.training(calls), budget="250s", search=search)
    assert [wide for wide, _, _ in calls.made] == [16]
    assert read_record(tmp_path)["ladder"]["plan"] == before


def test_several_full_trainings_are_fewer_where_the_time_gets_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three were planned; the first takes twice its time, and the run goes on and ends as one that asked for fewer."""
    clock = Clock(monkeypatch)
    search = Search(**{**vars(MAXIMIZE), "n_trials": 6})
    asked: dict[str, Any] = {"ladder": "confirm-3", "budget": "480s", "search": search, "pruning": Pruning(ratio=0.5)}
    monkeypatch.setitem(STEPS, "None", STEPS["0.5"])
    clock.slow_from = 5
    result = climb(tmp_path, clock.training(), **asked)
    assert len(result.record["confirmation"]) == result.record["confirm"] < 3
    assert clock.now < 1.1 * 480
    assert climb(tmp_path, never, **asked).already_finished


def test_workers_hear_how_many_trials_the_plan_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full training takes 100 s of 115 x 0.97 = 111.55, and each of four trials 2.67."""
    clock = Clock(monkeypatch)
    climb(tmp_path, clock.training(), budget="115s", search=Search(**{**vars(MAXIMIZE), "n_trials": 9}))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(f"{tmp_path}/study.log")))
    assert study.user_attrs[ORDER]["n_trials"] == read_record(tmp_path)["n_trials"] == 4


def test_the_winner_of_a_longer_run_keeps_its_weights(tmp_path: Path) -> None:
    ladder: dict[str, Any] = {"ladder": "paper", "pruning": Pruning(ratio=0.5)}
    climb(tmp_path, budget=1.5, **ladder)
    result = climb(tmp_path, budget=2.5, **ladder)
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])
    assert result.params["lr"] == max(each["params"]["lr"] for each in result.record["confirmation"])
    assert Ladder(*(Rung(**each) for each in result.record["ladder"]["plan"]["ladder"])).entrants[-1] == 1
