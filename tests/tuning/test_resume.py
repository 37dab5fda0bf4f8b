"""Runs that were stopped, killed, finished or changed, and are begun again."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import nn

from prunetune.backends import Int
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, PlanError, SearchError
from prunetune.events import Event, Notice, PhaseEnded
from prunetune.tuning.tuner import Pruning, Search, tune
from tiny_tune import (
    HALF,
    INPUTS,
    SMALL,
    SPACE,
    interrupt,
    make_quick,
    net,
    never,
    read_record,
    tiny_tune,
    train,
    width,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def test_a_finished_run_says_so_and_returns_its_result(tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        calls.append(report.number)
        return train(model, params, report)

    result, trained = tiny_tune(tmp_path, train=counted), len(calls)
    events: list[Event] = []
    again = tiny_tune(tmp_path, train=counted, observer=events.append)
    assert len(calls) == trained
    assert again.already_finished
    assert (again.params, again.score, again.record) == (result.params, result.score, result.record)
    assert events == [PhaseEnded("report", 0.0, f"the run in {tmp_path} is finished already")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 3}, "was started with epochs = 2, now it is 3"),
        ({"seed": 1}, "seed = 0, now it is 1"),
        ({"pruning": Pruning(scorer="random", ratio=0.5)}, "pruning.scorer = 'magnitude', now it is 'random'"),
        ({"pruning": Pruning(scorer="magnitude", ratio=0.25)}, "pruning.ratio = 0.5, now it is 0.25"),
        ({"pruning": Pruning(scorer="magnitude")}, "pruning.percentile = None, now it is 85.0"),
        (
            {"search": Search(direction="maximize", n_trials=4, confirm=2, trial_pruner="none")},
            "optimizer = 'optuna:random', now it is 'optuna",
        ),
    ],
)
def test_other_settings_on_the_same_folder_are_refused(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    with pytest.raises(InputError) as caught:
        tiny_tune(tmp_path, **options)
    assert sentence in str(caught.value)
    assert "continue it with the same settings, or choose another folder" in str(caught.value)


def test_fewer_trials_than_before_are_refused(tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    with pytest.raises(
        InputError, match="started with search.n_trials 4, now it is 3; continue it with the same or more"
    ):
        tiny_tune(tmp_path, search=replace(SMALL, n_trials=3))


def test_a_finished_run_is_made_longer(tmp_path: Path) -> None:
    """Its trials stay; the best of all are confirmed, as far as they are not; the winner is the best of those."""
    before = tiny_tune(tmp_path).record
    calls: list[int] = []

    def counted(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        calls.append(width(model))
        return train(model, params, report)

    result = tiny_tune(tmp_path, train=counted, search=replace(SMALL, n_trials=9), resume="anyway")
    assert result.record["n_trials"] == 9
    assert result.record["search"]["trials"]["complete"] == 9
    assert calls.count(8) == 5
    tried = {entry["trial"] for entry in before["confirmation"]}
    now = [entry["trial"] for entry in result.record["confirmation"]]
    assert len(now) == len(set(now)) == len(tried) + calls.count(16)
    assert now[:2] == [entry["trial"] for entry in before["confirmation"]]
    assert result.score == max(entry["base_score"] for entry in result.record["confirmation"])
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])
    assert tiny_tune(tmp_path, train=never, resume="anyway", search=replace(SMALL, n_trials=9)).already_finished


def test_a_study_that_was_lost_is_not_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupt)
    (tmp_path / "study.log").unlink()
    with pytest.raises(SearchError, match="has had 1 trials, but the study 'search' in its storage has none; give the"):
        tiny_tune(tmp_path)


def test_another_space_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    for space, sentence in (
        ({"lr": SPACE["lr"]}, "searches 'steps' too"),
        ({**SPACE, "z": Int(1, 2)}, "space.z = None"),
    ):
        with pytest.raises(InputError, match=sentence):
            tune(net, train, space, example_inputs=INPUTS, epochs=2, run_dir=tmp_path, pruning=HALF, search=SMALL)


def test_a_short_and_a_full_optimizer_name_are_the_same_setting(tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    search = replace(SMALL, optimizer="optuna:random")
    assert tiny_tune(tmp_path, search=search).already_finished


@pytest.mark.parametrize("stop_at", [2, 5])
def test_ctrl_c_and_on(stop_at: int, tmp_path: Path) -> None:
    """Trial 2 is one of the search, training 5 the second of the confirmation."""
    calls: list[dict[str, Any]] = []
    stop = True

    def interrupted(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        nonlocal stop
        calls.append(params)
        if stop and len(calls) == stop_at + 1:
            stop = False
            raise KeyboardInterrupt
        return train(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupted)
    before = read_record(tmp_path)
    assert before["status"] == ("searching" if stop_at == 2 else "confirming")
    if stop_at == 2:
        assert before["search"]["trials"]["interrupted"] == 1
    record = tiny_tune(tmp_path, train=interrupted).record
    assert len(calls) == 7  # four on the proxy, two on the base, and the one that was interrupted
    assert record["search"]["trials"]["complete"] == 4
    assert [entry["outcome"] for entry in record["confirmation"]].count("complete") == 2
    assert record["time"]["total"] > before["time"]["total"]
    assert record["time"]["search"] >= before["time"]["search"] > 0
    assert len({entry["seed"] for entry in record["confirmation"]}) == len(record["confirmation"])


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny_tune
import prunetune.engine, prunetune.report

prunetune.engine.step_time = lambda models, inputs, **_: dict.fromkeys(models, 0.5)
prunetune.report.write_report = tiny_tune.write_no_report
folder, log = Path(sys.argv[2]), Path(sys.argv[3])

def train(model, params, report):
    with log.open("a") as file:
        print(tiny_tune.width(model), params["lr"], report.seed, file=file)
    width = tiny_tune.width(model)
    if (width, report.number) == (int(sys.argv[4]), int(sys.argv[5])):
        os.kill(os.getpid(), signal.SIGKILL)
    return tiny_tune.train(model, params, report)

tiny_tune.tiny_tune(folder, train=train)
"""


@pytest.mark.parametrize(("network", "number"), [(8, 2), (16, 1)])
def test_sigkill_in_the_middle_of_a_trial_then_again(network: int, number: int, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    command = [sys.executable, "-c", _KILLED, str(Path(__file__).parents[1]), str(folder), str(log)]
    killed = subprocess.run([*command, str(network), str(number)], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "weights.safetensors").exists()
    plan = (folder / "plan.json").read_bytes()
    on = subprocess.run([*command, "0", "0"], capture_output=True, text=True, check=False)
    assert on.returncode == 0, on.stderr

    lines = [line.split() for line in log.read_text().splitlines()]
    assert [int(line[0]) for line in lines].count(8) == (5 if network == 8 else 4)
    assert [int(line[0]) for line in lines].count(16) == (2 if network == 8 else 3)
    assert len({line[2] for line in lines}) == 7  # no seed came twice
    on_proxy = [line[1] for line in lines if line[0] == "8"]
    assert len(set(on_proxy)) == 4  # what was killed came once more, and nothing else
    assert (folder / "plan.json").read_bytes() == plan

    record = read_record(folder)
    assert record["status"] == "finished"
    assert record["search"]["trials"]["complete"] == 4
    assert record["search"]["trials"]["interrupted"] == (1 if network == 8 else 0)
    outcomes = [entry["outcome"] for entry in record["confirmation"]]
    assert outcomes == (["complete"] * 2 if network == 8 else ["complete", "interrupted", "complete"])
    weights = load_file(folder / "weights.safetensors")
    assert float(weights["0.bias"][0]) == np.float32(record["winner"]["params"]["lr"])
    assert tiny_tune(folder, train=never, resume="anyway").already_finished


def test_a_changed_or_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupt)
    (tmp_path / "plan.json").write_text((tmp_path / "plan.json").read_text() + " ")
    with pytest.raises(InputError, match="plan.json is missing or was changed since the run began"):
        tiny_tune(tmp_path)


def test_another_network_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupt)
    with pytest.raises(PlanError):
        tune(
            lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)),
            train,
            SPACE,
            example_inputs=INPUTS,
            epochs=2,
            run_dir=tmp_path,
            pruning=HALF,
            search=SMALL,
        )


def test_a_run_that_was_begun_with_the_earlier_default_rule_goes_on_with_it(tmp_path: Path) -> None:
    """Proxies of one search follow one rule; "mup" was the default before version 0.2."""
    half, more = replace(HALF, transfer="mup"), replace(SMALL, n_trials=5)
    tiny_tune(tmp_path, pruning=half)
    events: list[Event] = []
    again = tiny_tune(tmp_path, pruning=HALF, search=more, observer=events.append)
    assert again.record["pruning"]["transfer"] == "mup"
    assert sum(again.record["search"]["trials"].values()) == 5
    said = "the run goes on with transfer 'mup', the default when it was started"
    assert next(event.message for event in events if isinstance(event, Notice) and "transfer" in event.message) == said


def test_a_run_that_was_begun_with_another_rule_wants_it_again(tmp_path: Path) -> None:
    tiny_tune(tmp_path, pruning=replace(HALF, transfer="identity"))
    with pytest.raises(InputError, match="pruning.transfer = 'identity', now it is 'norm-aware'"):
        tiny_tune(tmp_path, pruning=HALF)
