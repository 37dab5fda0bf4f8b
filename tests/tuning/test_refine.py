"""Refinement: where it searches, what its optimizer is told, who wins, and how it goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from safetensors.torch import load_file
from torch import nn

from prunetune.backends import Categorical, Float, Int, SearchSpace
from prunetune.backends.study.shrink_space import holds, narrowed
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError
from prunetune.events import Event, PhaseStarted, TrialEnded
from tiny_tune import SMALL, SPACE, make_quick, net, never, read_record, tiny_tune, touch, train, width

pytestmark = pytest.mark.filterwarnings("error")

REFINED = replace(SMALL, n_trials=6, refine=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def low_first(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """On the full network the score falls with the learning rate, on the proxy it rises: refining is worth it."""
    score = train(model, params, report)
    return score if width(model) == 8 else 32 - score


@contextmanager
def study(run_dir: Path, name: str) -> Iterator[optuna.Study]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{run_dir}/study.db")
    yield optuna.load_study(study_name=name, storage=storage)
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run with refinement, for those that only look at it."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patched:
        make_quick(patched)
        tiny_tune(folder, search=REFINED)
    return folder


# Where


def test_a_range_is_what_the_values_span_and_a_mean_gap_more_on_either_side() -> None:
    values = [1e-3, 1e-2, 1e-1, 1e-1]  # two decades, three gaps of two thirds of a decade
    small = narrowed(SearchSpace({"lr": Float(1e-6, 1.0, log=True)}), [{"lr": value} for value in values])
    (lr,) = small.values()
    assert isinstance(lr, Float)
    assert (lr.low, lr.high, lr.log) == (pytest.approx(10 ** (-3 - 2 / 3)), pytest.approx(10 ** (-1 + 2 / 3)), True)


def test_the_widening_is_the_unbiased_estimate_of_a_uniform_range() -> None:
    generator = np.random.default_rng(0)
    space = SearchSpace({"x": Float(-10.0, 10.0)})
    ends = []
    for _ in range(2000):
        x = narrowed(space, [{"x": value} for value in generator.uniform(2.0, 3.0, 5)])["x"]
        assert isinstance(x, Float)
        ends.append((x.low, x.high))
    assert np.mean(ends, axis=0) == pytest.approx([2.0, 3.0], abs=0.02)


def test_a_range_stays_within_the_space() -> None:
    space = SearchSpace({"x": Float(0.0, 1.0), "n": Int(1, 4)})
    small = narrowed(space, [{"x": value, "n": n} for value, n in ((0.0, 1), (0.4, 4), (0.8, 2), (1.0, 3))])
    assert small == space


def test_whole_numbers_choices_and_values_that_are_all_the_same() -> None:
    space = SearchSpace({"n": Int(1, 100), "m": Int(1, 100), "x": Float(0.0, 1.0), "way": Categorical(["a", "b", "c"])})
    values = [{"n": n, "m": 7, "x": 0.5, "way": way} for n, way in ((10, "c"), (14, "a"), (12, "c"), (19, "a"))]
    small = narrowed(space, values)
    assert small["n"] == Int(7, 22)  # three gaps of 3
    assert small["m"] == Int(6, 8)
    assert small["x"] == Float(0.0, 1.0)
    assert small["way"] == Categorical(["a", "c"])
    assert all(holds(small, each) for each in values)
    assert not holds(small, {**values[0], "way": "b"})
    assert not holds(small, {**values[0], "n": 23})


def test_three_configurations_tell_no_range() -> None:
    assert narrowed(SPACE, [{"lr": 0.1, "steps": 1}] * 3) == SPACE


# A run


def test_the_winner_is_the_best_of_what_was_confirmed_and_refined(tmp_path: Path) -> None:
    events: list[Event] = []
    result = tiny_tune(tmp_path, train=low_first, search=REFINED, observer=events.append)
    record = result.record
    assert record == read_record(tmp_path)
    refined = record["refinement"]["trials"]
    assert [entry["refine_trial"] for entry in refined] == [1, 2, 3]
    assert [entry["base_score"] for entry in refined] == pytest.approx(
        [16 - entry["params"]["lr"] for entry in refined]
    )
    scores = [entry["base_score"] for entry in (*record["confirmation"], *refined)]
    assert result.score == max(scores) == refined[record["winner"]["refine_trial"] - 1]["base_score"]
    assert record["winner"]["trial"] is None
    assert json.loads((tmp_path / "best.json").read_text()) == {"format": 1, "network": "base", **record["winner"]}
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])
    assert not list(tmp_path.glob("weights-*-*"))
    started = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert started == ["prune", "search", "confirm", "refine", "report"]
    assert sum(isinstance(event, TrialEnded) and event.phase == "refine" for event in events) == 3
    time = record["time"]
    assert time["refine"] > 0
    assert sum(time[name] for name in ("prune", "measure", "search", "confirm", "refine")) <= time["total"]
    seeds = [entry["seed"] for entry in (*record["confirmation"], *refined)]
    assert len(set(seeds)) == 5


def test_without_the_race_all_run_to_their_end_and_what_is_no_better_takes_no_place(tmp_path: Path) -> None:
    def worse(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        """By 5, from the first epoch on, at which the race would have stopped it."""
        touch(model)
        less = 5.0 if report._phase == "refine" else 0.0
        for epoch in range(1, report.epochs + 1):
            report(width(model) + params["lr"] - less, epoch)
        return width(model) + params["lr"] - less

    result = tiny_tune(tmp_path, train=worse, search=replace(REFINED, race=False))
    assert [entry["outcome"] for entry in result.record["refinement"]["trials"]] == ["complete"] * 3
    assert "raced" not in result.record["refinement"]
    best = max(result.record["confirmation"], key=lambda entry: entry["base_score"])
    won = {"trial": best["trial"], "params": best["params"], "score": best["base_score"], "seed": best["seed"]}
    assert result.record["winner"] == won
    assert not list(tmp_path.glob("weights-*-*"))


def test_the_ranges_hold_the_best_quarter_but_four_at_least_and_what_was_confirmed(plain: Path) -> None:
    record = read_record(plain)
    with study(plain, "search") as searched:
        best = sorted(searched.trials, key=lambda trial: -trial.value)[:4]  # a quarter would be two, rounded up
    space = SearchSpace.from_dict(record["refinement"]["space"])
    assert space == narrowed(SPACE, [trial.params for trial in best])
    assert space["lr"] != SPACE["lr"]
    assert all(holds(space, entry["params"]) for entry in record["refinement"]["trials"])


def test_the_optimizer_is_told_what_was_trained_and_what_the_proxy_knows(plain: Path) -> None:
    """Scores of the full network are 8 higher than the proxy's, and so much the proxy's are moved."""
    record = read_record(plain)
    space = SearchSpace.from_dict(record["refinement"]["space"])
    with study(plain, "refine") as refined, study(plain, "search") as searched:
        told = {
            trial.user_attrs["search_trial"]: (trial.user_attrs["told"], trial.params, trial.value)
            for trial in refined.trials
            if "told" in trial.user_attrs
        }
        inside = [trial for trial in searched.trials if holds(space, trial.params)]
    confirmed = {entry["trial"] for entry in record["confirmation"]}
    assert told == {
        trial.number: ("base" if trial.number in confirmed else "proxy", trial.params, pytest.approx(trial.value + 8))
        for trial in inside
    }
    assert record["refinement"]["told"] == {"base": 2, "proxy": len(inside) - 2}
    assert len(inside) >= 4


def test_refined_trials_race_the_confirmed_ones_and_those_that_were_stopped_are_told(tmp_path: Path) -> None:
    """Of four epochs. The first confirmation is level at 20; the second, and what is refined, stops after one at 10."""

    def level(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        high = width(model) == 8 or (report._phase == "confirm" and report.number == 0)
        for epoch in range(1, report.epochs + 1):
            report(20.0 if high else 10.0, epoch)
        return 20.0 if high else 10.0

    record = tiny_tune(tmp_path, train=level, search=REFINED, epochs=4).record
    assert [entry["outcome"] for entry in record["confirmation"]] == ["complete", "pruned"]
    assert [entry["outcome"] for entry in record["refinement"]["trials"]] == ["pruned"] * 3
    assert (record["raced"]["epochs_saved"], record["refinement"]["raced"]["epochs_saved"]) == (3, 3 * 3)
    assert record["refinement"]["raced"]["seconds_saved"] > 0
    with study(tmp_path, "refine") as refined:
        told = [trial for trial in refined.trials if trial.user_attrs.get("told") == "base"]
    assert [(trial.state, trial.intermediate_values) for trial in told] == [
        (TrialState.COMPLETE, dict.fromkeys(range(1, 5), 20.0)),
        (TrialState.PRUNED, {1: 10.0}),
    ]


def test_an_optimizer_that_models_all_hyperparameters_together_goes_on_from_what_it_was_told(tmp_path: Path) -> None:
    """It needs trials that all have the same ranges: in those of the search it would find nothing in common."""
    search = replace(REFINED, n_trials=12, optimizer="optuna:tpe-multivariate", refine=2)
    record = tiny_tune(tmp_path, search=search).record
    assert [entry["outcome"] for entry in record["refinement"]["trials"]] == ["complete"] * 2
    with study(tmp_path, "refine") as refined:
        common = optuna.search_space.intersection_search_space(refined.get_trials())
    assert list(common) == list(record["refinement"]["space"])


# Going on


def test_ctrl_c_and_on(tmp_path: Path) -> None:
    """Six trainings on the proxy, two confirmations; then the second of the refinement is stopped."""
    calls: list[float] = []
    stop = True

    def interrupted(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        nonlocal stop
        if stop and len(calls) == 6 + 2 + 1:
            stop = False
            raise KeyboardInterrupt
        calls.append(params["lr"])
        return low_first(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupted, search=REFINED)
    before = read_record(tmp_path)
    assert before["status"] == "refining"
    assert before["winner"]["score"] == max(entry["base_score"] for entry in before["confirmation"])
    assert (tmp_path / "weights.safetensors").exists()
    result = tiny_tune(tmp_path, train=interrupted, search=REFINED)
    assert len(calls) == 6 + 2 + 3
    outcomes = [entry["outcome"] for entry in result.record["refinement"]["trials"]]
    assert sorted(outcomes) == ["complete"] * 3 + ["interrupted"]
    assert result.record["refinement"]["space"] == before["refinement"]["space"]
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])


def test_a_finished_run_is_refined_and_then_refined_more(tmp_path: Path) -> None:
    tiny_tune(tmp_path, train=low_first, search=replace(REFINED, refine=0))
    assert "refinement" not in read_record(tmp_path)
    first = tiny_tune(tmp_path, train=low_first, search=REFINED).record["refinement"]
    more = replace(REFINED, refine=5)
    result = tiny_tune(tmp_path, train=low_first, search=more)
    assert result.record["refine"] == 5
    assert len(result.record["refinement"]["trials"]) == 5
    assert result.record["refinement"]["trials"][:3] == first["trials"]
    assert result.record["refinement"]["space"] == first["space"]
    assert tiny_tune(tmp_path, train=never, resume="anyway", search=more).already_finished
    with pytest.raises(InputError, match="started with refine = 5, which can be raised, but now it is 3; choose"):
        tiny_tune(tmp_path, search=REFINED)


def test_a_longer_search_does_not_lose_a_refined_winner(tmp_path: Path) -> None:
    """What is confirmed then is worse, and the refined weights stay; the ranges stay as they were."""
    first = tiny_tune(tmp_path, train=low_first, search=REFINED)
    assert "refine_trial" in first.record["winner"]
    later = tiny_tune(tmp_path, train=low_first, search=replace(REFINED, n_trials=12))
    assert len(later.record["confirmation"]) > 2
    assert later.record["winner"] == first.record["winner"]
    assert later.record["refinement"]["trials"] == first.record["refinement"]["trials"]
    assert float(load_file(later.weights)["0.bias"][0]) == np.float32(first.params["lr"])
    assert not list(tmp_path.glob("weights-*-*"))


def test_one_killed_between_the_record_and_the_weights_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prunetune.tuning.confirm

    real, moves = prunetune.tuning.confirm.os.replace, []

    def killed(source: Path, target: Path) -> None:
        moves.append(Path(source).name)
        if "weights-refine" in Path(source).name:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(prunetune.tuning.confirm, "os", type("os", (), {"replace": staticmethod(killed)}))
        with pytest.raises(KeyboardInterrupt):
            tiny_tune(tmp_path, train=low_first, search=REFINED)
    assert any("weights-refine" in name for name in moves)
    result = tiny_tune(tmp_path, train=low_first, search=REFINED)
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])
    assert "refine_trial" in result.record["winner"]


def test_refined_trials_that_all_fail_leave_the_confirmed_winner(tmp_path: Path) -> None:
    def broken(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if report._phase == "refine":
            raise MemoryError("too large")
        return train(model, params, report)

    with pytest.raises(SearchError, match=r"the first 3 trials all failed \(refine\); .*MemoryError: too large"):
        tiny_tune(tmp_path, train=broken, search=REFINED)
    winner = read_record(tmp_path)["winner"]
    assert "refine_trial" not in winner
    assert math.isfinite(winner["score"])
    result = tiny_tune(tmp_path, resume="anyway", search=REFINED)  # mended: what failed is not counted
    assert result.score >= winner["score"]
    model = net()
    result.load_weights(model)
