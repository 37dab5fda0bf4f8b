"""Workers above the first rung: they take over what came up there, propose nothing, and keep the winner's weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from safetensors.torch import load_file

import prunetune.tuning.worker
from prunetune import Ladder, Rung, work
from prunetune.backends.study.attributes import GIVEN_UP, RETRY, RETRY_OF, SEARCH_TRIAL
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study
from prunetune.events import Event, Notice
from prunetune.ladder.promotion import RungResult
from prunetune.tuning.climbers import CAME_UP, Climber, enqueue, expected
from prunetune.tuning.tuner import Search
from tiny_ladder import Trainings, climb, make_quick, points
from tiny_tune import SPACE, net, never

pytestmark = pytest.mark.filterwarnings("error")

LADDER = Ladder(Rung(1 / 8, 1 / 3, trials=6, keep=4), Rung(1 / 4, keep=3), Rung())
"""Six, four, and three in full."""
RATES = (0.3, 0.1, 0.6, 0.2, 0.5, 0.4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"journal://{tmp_path}/shared.log"


def shared(url: str, **more: Any) -> dict[str, Any]:
    search = Search(direction="maximize", optimizer="random", trial_pruner="none", storage=url, study="shared")
    return {"search": search, "ladder": LADDER, **points(*RATES), **more}


def stopped(folder: Path, url: str, after: int) -> None:
    """A run whose owner is stopped when so many have been trained."""
    with pytest.raises(KeyboardInterrupt):
        climb(folder, Trainings(stop_before=after + 1), **shared(url))


def test_a_worker_takes_over_what_came_up_to_a_rung(tmp_path: Path, url: str) -> None:
    """The owner was stopped in the second training of the second rung, to which the best four of six came up.

    What it was stopped in, with 0.5, it queues again itself.
    """
    stopped(tmp_path / "run", url, after=7)
    helped = Trainings()
    assert work(net, helped, url, resume="anyway") == 2
    assert helped.made == [(4, 3, 0.4), (4, 3, 0.3)]
    assert work(net, never, url, resume="anyway") == 0
    rest = Trainings()
    result = climb(tmp_path / "run", rest, **shared(url))
    assert rest.made == [(4, 3, 0.5), *((16, 3, rate) for rate in (0.6, 0.5, 0.4))]
    assert result.params["lr"] == 0.6
    assert work(net, never, url, resume="anyway") == 0


def test_a_worker_keeps_the_weights_of_the_last_rung(tmp_path: Path, url: str) -> None:
    """0.4 is best on the full network, which only the worker trains with it; the owner is stopped with 0.5."""

    def best_at_low(wide: int, rate: float) -> float:
        return rate if wide < 16 else -rate

    with pytest.raises(KeyboardInterrupt):
        climb(tmp_path / "run", Trainings(best_at_low, stop_before=12), **shared(url))
    helped, rest = Trainings(best_at_low), Trainings(best_at_low)
    assert work(net, helped, url, resume="anyway") == 1
    assert helped.made == [(16, 3, 0.4)]
    result = climb(tmp_path / "run", rest, **shared(url))
    assert rest.made == [(16, 3, 0.5)]
    assert result.params["lr"] == 0.4
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(0.4)
    assert [path.name for path in (tmp_path / "run").glob("weights*")] == ["weights.safetensors"]


def test_a_worker_that_does_not_reach_the_folder_leaves_the_last_rung(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path / "run", url, after=11)
    monkeypatch.setattr(prunetune.tuning.worker, "folder_of", lambda study: None)
    events: list[Event] = []
    assert work(net, never, url, resume="anyway", observer=events.append) == 0
    said = "the last rung is trained by those who reach the run's folder, where weights are kept"
    assert Notice(said) in events


@pytest.mark.parametrize("reached", [True, False])
def test_a_search_on_the_full_network_may_be_won_by_a_worker(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    """It trains 0.9; where it does not reach the folder, its weights are lost and the run trains that once more."""
    asked = shared(url, ladder="full", **points(0.3, 0.1, 0.2, 0.9))
    asked["search"] = replace(asked["search"], n_trials=4)
    with pytest.raises(KeyboardInterrupt):
        climb(tmp_path / "run", Trainings(stop_before=3), **asked)
    if not reached:
        monkeypatch.setattr(prunetune.tuning.worker, "folder_of", lambda study: None)
    helped, rest, events = Trainings(), Trainings(), list[Event]()
    assert work(net, helped, url, resume="anyway") == 2
    assert 0.9 in helped.rates(16)
    result = climb(tmp_path / "run", rest, **asked, observer=events.append)
    assert rest.made == ([] if reached else [(16, 3, 0.9)])
    again = Notice("a worker trained the best, and workers keep no weights: it is trained again")
    assert (again in events) is not reached
    assert (result.params["lr"], result.score) == (0.9, 16.9)
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(0.9)


def test_who_trains_it_makes_no_difference(tmp_path: Path, url: str) -> None:
    alone = climb(tmp_path / "alone", **shared(f"journal://{tmp_path}/alone.log"))
    stopped(tmp_path / "run", url, after=3)
    work(net, Trainings(), url, resume="anyway")
    stopped(tmp_path / "run", url, after=2)
    work(net, Trainings(), url, resume="anyway")
    helped = climb(tmp_path / "run", **shared(url))
    seeds = [
        [(each["params"], each["seed"]) for rung in record["climbs"] for each in rung["trained"] if each["seed"]]
        for record in (alone.record, helped.record)
    ]
    assert len(seeds[0]) == 4
    assert (helped.params, helped.score) == (alone.params, alone.score)
    assert [params for params, _ in seeds[0]] == [params for params, _ in seeds[1]][:4]


def test_what_the_folder_alone_has_is_not_trained_again(tmp_path: Path, url: str) -> None:
    """Version 0.1 kept the full network's trainings in the folder, where the search was in a shared storage."""
    result = climb(tmp_path / "run", **shared(url))
    with open_study(url, "shared/confirm", _confirming()) as study:
        assert len(study.trials) == 3
        optuna.delete_study(study_name="shared/confirm", storage=study._storage)
    path = tmp_path / "run" / "result.json"
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "confirming"'))
    again = climb(tmp_path / "run", never, **shared(url))
    assert not again.already_finished
    assert (again.params, again.score) == (result.params, result.score)


def _confirming() -> StudySettings:
    return StudySettings(SPACE, 3, optimizer="random", trial_pruner="none")


# A rung's queue


def climber(number: int) -> Climber:
    return Climber(number, {"lr": 0.1 * (number + 1), "steps": 1}, RungResult(number, 0.5))


def dead(study: optuna.Study, retry: int) -> None:
    """The next in the queue is begun, and its worker dies."""
    trial = study.ask(SPACE.to_optuna())
    trial.set_user_attr(GIVEN_UP, True)
    if retry:
        trial.set_user_attr(RETRY, retry)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)


def test_one_whose_worker_died_is_tried_again_with_its_number(tmp_path: Path) -> None:
    settings = StudySettings(SPACE, 1, optimizer="random", trial_pruner="none")
    with open_study(f"sqlite:///{tmp_path}/s.db", "rung", settings, needs=CAME_UP) as study:
        assert enqueue(study, [climber(7), climber(8)], start=True) == 2
        dead(study, retry=0)
        assert expected(study) == enqueue(study, [climber(7), climber(8)]) == 2
        assert run_trials(study, lambda params, report: params["lr"], settings, n_trials=lambda: expected(study)) == 2
        ended = {trial.user_attrs[SEARCH_TRIAL]: trial for trial in study.trials if trial.value is not None}
        assert {number: trial.value for number, trial in ended.items()} == pytest.approx({7: 0.8, 8: 0.9})
        assert ended[7].user_attrs[RETRY_OF] == 0
    with open_study(f"sqlite:///{tmp_path}/s.db", "rung", settings, needs=CAME_UP):
        pass  # which every trial that came up has


def test_one_whose_workers_die_too_often_is_left_until_the_next_start(tmp_path: Path) -> None:
    """Nobody proposes another in its place."""
    settings = StudySettings(SPACE, 1, optimizer="random", trial_pruner="none")
    with open_study(f"sqlite:///{tmp_path}/s.db", "rung", settings) as study:
        enqueue(study, [climber(7), climber(8)], start=True)
        dead(study, retry=2)
        assert expected(study) == enqueue(study, [climber(7), climber(8)]) == 1
        assert run_trials(study, lambda params, report: params["lr"], settings, n_trials=lambda: expected(study)) == 1
        assert len(study.trials) == 2
        assert enqueue(study, [climber(7), climber(8)], start=True) == 2


def test_one_that_a_worker_was_stopped_in_is_queued_again_by_the_owner(tmp_path: Path) -> None:
    settings = StudySettings(SPACE, 1, optimizer="random", trial_pruner="none")

    def interrupted(params: dict[str, Any], report: Any) -> float:
        raise KeyboardInterrupt

    with open_study(f"sqlite:///{tmp_path}/s.db", "rung", settings) as study:
        enqueue(study, [climber(7), climber(8)], start=True)
        with pytest.raises(KeyboardInterrupt):
            run_trials(study, interrupted, settings, n_trials=lambda: expected(study))
        assert expected(study) == 1
        assert enqueue(study, [climber(7), climber(8)]) == 2
        assert enqueue(study, [climber(7), climber(8)]) == 2


def test_what_a_worker_ends_while_the_owner_looks_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs when the study is read first, and has ended when it is read again."""
    settings = StudySettings(SPACE, 1, optimizer="random", trial_pruner="none")
    with open_study(f"sqlite:///{tmp_path}/s.db", "rung", settings) as study:
        enqueue(study, [climber(7)], start=True)
        running, read = study.ask(SPACE.to_optuna()), study.get_trials

        def ends_after_one_look(**options: Any) -> list[optuna.trial.FrozenTrial]:
            seen = read(**options)
            study.tell(running, 0.5, skip_if_finished=True)
            return seen

        monkeypatch.setattr(study, "get_trials", ends_after_one_look)
        assert enqueue(study, [climber(7)]) == 1
        assert len(read()) == 1


# At work together

OWNER = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import prunetune
from tiny_tune import INPUTS, SPACE, net, train

def slowly(model, params, report):
    time.sleep(0.3)
    return train(model, params, report)

Rung = prunetune.Rung
ladder = prunetune.Ladder(Rung(1 / 8, 1 / 3, trials=12, keep=8), Rung(1 / 4, keep=6), Rung())
search = prunetune.Search(direction="maximize", optimizer="random", trial_pruner="none", storage=sys.argv[1])
if sys.argv[2] == "own":
    asked = {"ladder": ladder, "search": search, "run_dir": sys.argv[3], "energy": False}
    prunetune.tune(net, slowly, SPACE, example_inputs=INPUTS, epochs=3, **asked)
else:
    print("trained", prunetune.work(net, slowly, sys.argv[1], wait=60))
"""


def test_two_workers_share_every_rung_and_one_is_killed(tmp_path: Path, url: str) -> None:
    """Twelve, eight and six trainings of .3 s: each of the two that live has some of each rung."""

    def start(role: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OWNER, url, role, str(tmp_path / "run")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    owner, worker, killed = start("own"), start("work"), start("work")
    result = tmp_path / "run" / "result.json"
    while not (result.exists() and '"status": "climbing"' in result.read_text()) and owner.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    said, worked = owner.communicate(timeout=240)[0], worker.communicate(timeout=60)[0]
    killed.communicate()
    assert owner.returncode == 0, said
    assert worker.returncode == 0, worked
    for words in ("Searching", "Climbing", "Training the best on the full network"):
        assert words in worked, worked
    assert int(worked.rsplit("trained ", 1)[1]) >= 3
    assert (tmp_path / "run" / "weights.safetensors").exists()
