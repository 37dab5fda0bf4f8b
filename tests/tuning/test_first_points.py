"""Where a search begins and where it ends: points to begin with, points that are none, spaces of few points."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from torch import nn

from prunetune.backends import Categorical, Float, Int, SearchSpace
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from prunetune.events import Event, PhaseStarted, Warned
from prunetune.tuning.tuner import tune
from tiny_tune import (
    HALF,
    INPUTS,
    SMALL,
    SPACE,
    interrupt,
    make_quick,
    net,
    read_record,
    tiny_tune,
    touch,
    train,
    width,
)

pytestmark = pytest.mark.filterwarnings("error")
SIX = SearchSpace({"lr": Categorical([0.1, 0.2, 0.4]), "steps": Int(1, 2)})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def run(folder: Path, space: Any = SIX, **options: Any) -> Any:
    given = {"example_inputs": INPUTS, "epochs": 2, "pruning": HALF, "search": SMALL, **options}
    return tune(net, given.pop("train", train), space, run_dir=folder, **given)


def _tried(folder: Path, settings: StudySettings) -> list[dict[str, Any]]:
    with open_study(f"journal://{folder}/study.log", "search", settings) as study:
        return [trial.params for trial in study.trials if trial.user_attrs.get("outcome") == "complete"]


@pytest.mark.parametrize("optimizer", ["random", "tpe", "cma-es", "bo", "optuna:gp", "optuna:grid", "optuna:cmaes"])
def test_each_point_of_a_small_space_is_tried_once_and_then_the_search_ends(optimizer: str, tmp_path: Path) -> None:
    settings = StudySettings(SIX, 1, "maximize", optimizer, "none")
    seen: list[tuple[float, int]] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        seen.append((params["lr"], params["steps"]))
        return float(params["lr"])

    events: list[Event] = []
    with open_study(f"sqlite:///{tmp_path}/study.db", "search", settings) as study:
        ran = run_trials(study, objective, settings, n_trials=16, observer=events.append, distinct=True)
    assert ran == 6
    assert sorted(seen) == sorted(itertools.product([0.1, 0.2, 0.4], [1, 2]))
    (began,) = [event for event in events if isinstance(event, PhaseStarted)]
    assert began.total == 6
    assert "the space has 6 configurations in all, fewer than 16 trials: each is tried once" in began.notes


def test_a_search_that_came_to_all_points_is_finished_and_says_why(tmp_path: Path) -> None:
    asked = replace(SMALL, n_trials=16)
    record = run(tmp_path, search=asked).record
    assert record["search"]["trials"]["complete"] == 6
    assert any("6 configurations in all" in note for note in record["search"]["notes"])
    assert run(tmp_path, search=asked).already_finished


def test_no_point_of_a_small_space_is_trained_twice_on_the_full_network(tmp_path: Path) -> None:
    on_base: Counter[tuple[float, int]] = Counter()

    def counted(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        on_base[params["lr"], params["steps"]] += width(model) == 16
        return train(model, params, report)

    run(tmp_path, train=counted, search=replace(SMALL, n_trials=16, confirm=16))
    assert len(on_base) == 6
    assert set(on_base.values()) == {1}


def test_what_failed_was_tried_and_what_was_stopped_by_hand_was_not(tmp_path: Path) -> None:
    calls: Counter[tuple[float, int]] = Counter()

    def unlucky(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        calls[params["lr"], params["steps"]] += 1
        touch(model)
        if sum(calls.values()) == 3:
            raise KeyboardInterrupt
        if params["lr"] == 0.2:
            raise ValueError("no luck")
        return float(params["lr"])

    asked = replace(SMALL, n_trials=16, confirm=0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, train=unlucky, search=asked)
    counts = run(tmp_path, train=unlucky, search=asked).record["search"]["trials"]
    assert counts["complete"] + counts["failed"] == 6
    assert (counts["complete"], counts["failed"]) in ((4, 2), (5, 1))  # 0.2 with one of its steps may be the third call
    assert len(calls) == 6


def test_the_search_begins_with_the_points_that_were_given_and_once_only(tmp_path: Path) -> None:
    first = [{"lr": 0.5, "steps": 2}, {"lr": 0.25}]
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupt, first=first)
    tiny_tune(tmp_path, first=[*first, {"lr": 0.125}])
    settings = StudySettings(SPACE, 2, "maximize", "random", "none")
    tried = _tried(tmp_path, settings)
    assert [params["lr"] for params in tried[:2]] == [0.25, 0.125]  # the first was interrupted, and is not drawn again
    assert [params["lr"] for params in tried].count(0.25) == 1
    assert read_record(tmp_path)["status"] == "finished"


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ([{"lr": 3.0}], r"first\[0\]: lr is 3.0, which is not in Float\(low=0.001, high=1.0, log=True\)"),
        ([{"lr": 0.5}, {"steps": 2.5}], r"first\[1\]: steps is 2.5, which is not in Int"),
        ([{"lr": "0.5"}], r"first\[0\]: lr is '0.5', which is not in Float"),
        ([{"rate": 0.5}], r"first\[0\]: unknown hyperparameter 'rate'"),
        ([0.5], r"first\[0\] is 0.5, but it must be a dict of hyperparameters"),
        ({"lr": 0.5}, "first must be several points; got {'lr': 0.5}: put it into a list"),
    ],
)
def test_a_first_point_that_is_none_is_one_sentence_before_anything_runs(
    first: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        tiny_tune(tmp_path / "run", first=first)
    assert not (tmp_path / "run").exists()


def test_a_point_that_somebody_enqueued_outside_of_the_space_is_left_out(tmp_path: Path) -> None:
    settings = StudySettings(SIX, 1, "maximize", "random", "none")
    events: list[Event] = []
    with open_study(f"sqlite:///{tmp_path}/study.db", "search", settings) as study:
        for point in ({"lr": "0.1"}, {"lr": 0.1, "steps": 9}, {"lr": 0.4, "steps": 2}):
            study.enqueue_trial(point)
        seen: list[Any] = []
        run_trials(
            study,
            lambda params, report: seen.append(params) or params["lr"],
            settings,
            n_trials=1,
            observer=events.append,
        )
        assert seen == [{"lr": 0.4, "steps": 2}]
    said = [event.message for event in events if isinstance(event, Warned)]
    assert said == [
        f"warning: trial {number}, which was enqueued, is left out: {name} is {value!r}, which is not in {SIX[name]}"
        for number, name, value in ((0, "lr", "0.1"), (1, "steps", 9))
    ]


def test_more_may_be_confirmed_later(tmp_path: Path) -> None:
    before = tiny_tune(tmp_path, search=replace(SMALL, confirm=1)).record
    again = tiny_tune(tmp_path, search=replace(SMALL, confirm=3))
    assert not again.already_finished
    assert len(before["confirmation"]) == 1
    assert again.record["confirmation"][0]["trial"] == before["confirmation"][0]["trial"]
    assert len(again.record["confirmation"]) == again.record["confirm"] == 3
    assert tiny_tune(tmp_path, search=replace(SMALL, confirm=3)).already_finished
    with pytest.raises(
        InputError, match="started with search.confirm 3, now it is 2; continue it with the same or more"
    ):
        tiny_tune(tmp_path, search=replace(SMALL, confirm=2))
    with pytest.raises(InputError, match="started with search.confirm 3, now it is none"):
        tiny_tune(tmp_path, search=replace(SMALL, confirm=None))


def test_a_wider_space_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    with pytest.raises(InputError, match=r"a search keeps its space; .* begin there with the best of this run: tune\("):
        run(tmp_path, {**SPACE, "lr": Float(1e-3, 2.0, log=True)})


def test_ranges_with_steps() -> None:
    space = SearchSpace({"n": Int(32, 128, step=32), "x": Float(0.0, 1.0, step=0.25), "one": Float(0, 3, step=1)})
    assert SearchSpace.from_json(space.to_json()) == space
    assert SearchSpace.from_optuna(space.to_optuna()) == space
    assert space["n"].values() == [32, 64, 96, 128]  # type: ignore[union-attr]
    assert space["x"].values() == [0.0, 0.25, 0.5, 0.75, 1.0]  # type: ignore[union-attr]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.plain(study.ask(space.to_optuna()).params) for _ in range(40)]
    assert {params["n"] for params in drawn} == {32, 64, 96, 128}
    assert {params["x"] for params in drawn} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert "step" not in SearchSpace({"n": Int(1, 3)}).to_dict()["n"]  # as older versions wrote it
    for wrong in ({"step": 0}, {"step": -32}, {"step": 20}, {"step": 32, "log": True}, {"step": 0.5}):
        with pytest.raises(InputError, match="step"):
            Int(32, 128, **wrong)


def test_other_libraries_know_the_values_of_a_stepped_range() -> None:
    from prunetune.interop.nevergrad import to_nevergrad
    from prunetune.interop.skopt import to_skopt

    space = SearchSpace({"n": Int(32, 96, step=32)})
    (dimension,) = to_skopt(space)
    assert set(dimension.categories) == {32, 64, 96}
    assert to_nevergrad(space)["n"].choices.value == (32, 64, 96)


def test_what_cannot_be_a_choice_says_what_to_do_instead() -> None:
    with pytest.raises(InputError, match=r"\(1, 2\) cannot be a choice; use .*names, say, Categorical\(\['small'"):
        Categorical([(1, 2), (3, 4)])  # type: ignore[list-item]
