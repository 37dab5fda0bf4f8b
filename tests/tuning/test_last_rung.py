"""The last rung, with learning curves that are written down: all are trained to their end, and the best wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import nn

import prunetune.tuning.last_rung
from prunetune.backends import Categorical
from prunetune.backends.study.trial import Report
from prunetune.events import Event, PhaseEnded, PhaseStarted, TrialEnded
from prunetune.tuning.retraining import retrain
from prunetune.tuning.settings import Pruning
from prunetune.tuning.tuner import Search, TuneResult, tune
from tiny_tune import HALF, INPUTS, make_quick, net, tiny_tune, touch, train, width

pytestmark = pytest.mark.filterwarnings("error")

PROXY = {"a": [0.5, 0.9, 0.9, 0.9], "b": [0.5, 0.8, 0.8, 0.8], "c": [0.5, 0.7, 0.7, 0.7]}
"""Learning curves of four epochs: a is the best on the proxy."""
BASE = {"a": [0.4, 0.6, 0.7, 0.7], "b": [0.1, 0.2, 0.5, 0.9], "c": [0.0, 0.1, 0.1, 0.1]}
"""On the full network b is, but far behind until the last epoch."""
Curves = Mapping[str, Sequence[float]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


class Scripted:
    """A train function that follows the curves, and reports them or not."""

    def __init__(self, proxy: Curves = PROXY, base: Curves = BASE, *, reports: bool = True) -> None:
        self.curves = {8: proxy, 16: base}
        self.reports = reports
        self.trained: list[tuple[str, int]] = []  # on the full network: which, and to which epoch
        self.interrupt_at: tuple[str, int] | None = None

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        which, curve = params["which"], self.curves[width(model)][params["which"]]
        touch(model)
        for epoch, score in enumerate(curve, 1):
            if width(model) == 16:
                self.trained = [*(each for each in self.trained if each[0] != which), (which, epoch)]
                if self.interrupt_at == (which, epoch):
                    self.interrupt_at = None
                    raise KeyboardInterrupt
            if self.reports:
                report(score, epoch)
        return curve[-1]


def confirm(run_dir: Path, train: Scripted, *, observer: Any = lambda event: None, **search: Any) -> TuneResult:
    given = {"n_trials": 3, "confirm": 3, "optimizer": "optuna:grid", "trial_pruner": "none", **search}
    space = {"which": Categorical(sorted(train.curves[8]))}
    return tune(
        net,
        train,
        space,
        example_inputs=INPUTS,
        epochs=4,
        run_dir=run_dir,
        pruning=HALF,
        search=Search(direction="maximize", **given),
        observer=observer,
    )


def ends(result: TuneResult) -> list[tuple[str, str, int]]:
    return [(each["params"]["which"], each["outcome"], each["epochs"]) for each in result.record["confirmation"]]


@pytest.mark.parametrize("trial_pruner", ["none", "asha", "median"])
def test_nobody_is_stopped_however_far_behind(trial_pruner: str, tmp_path: Path) -> None:
    """In the search they may be: the trial pruner is for trials on the proxy."""
    events: list[Event] = []
    train = Scripted()
    result = confirm(tmp_path, train, observer=events.append, trial_pruner=trial_pruner)
    assert train.trained == [("a", 4), ("b", 4), ("c", 4)]
    assert ends(result) == [(which, "complete", 4) for which in "abc"]
    assert (result.params, result.score) == ({"which": "b"}, 0.9)
    assert [each["message"] for each in result.record["confirmation"]] == ["", "", ""]
    outcomes = [event.outcome for event in events if isinstance(event, TrialEnded) and event.phase == "confirm"]
    assert outcomes == ["complete"] * 3
    (started,) = [event for event in events if isinstance(event, PhaseStarted) and event.phase == "confirm"]
    assert started.notes == ()
    assert not list(tmp_path.glob("weights-*-*"))


def test_a_train_function_that_reports_nothing_is_judged_by_its_final_score(tmp_path: Path) -> None:
    result = confirm(tmp_path, Scripted(reports=False))
    assert [(which, outcome) for which, outcome, _ in ends(result)] == [(which, "complete") for which in "abc"]
    assert (result.params, result.score) == ({"which": "b"}, 0.9)


def test_what_was_interrupted_is_trained_again_and_nothing_else(tmp_path: Path) -> None:
    train = Scripted()
    train.interrupt_at = ("b", 3)
    with pytest.raises(KeyboardInterrupt):
        confirm(tmp_path, train)
    train.trained = []
    result = confirm(tmp_path, train)
    assert sorted(train.trained) == [("b", 4), ("c", 4)]
    assert sorted(ends(result)) == [
        ("a", "complete", 4),
        ("b", "complete", 4),
        ("b", "interrupted", 2),
        ("c", "complete", 4),
    ]
    assert confirm(tmp_path, train).already_finished


def test_one_killed_between_the_record_and_the_weights_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[str] = []

    def killed(source: Path, target: Path) -> None:
        moves.append(Path(source).name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prunetune.tuning.last_rung, "os", type("os", (), {"replace": staticmethod(killed)}))
        with pytest.raises(KeyboardInterrupt):
            tiny_tune(tmp_path, train=train)
    (moved,) = moves
    assert (tmp_path / moved).exists()
    result = tiny_tune(tmp_path, train=train)
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])
    assert not list(tmp_path.glob("weights-*-*"))


def test_the_best_of_a_confirmation_has_its_number_in_the_search(tmp_path: Path) -> None:
    events: list[Event] = []
    record = tiny_tune(tmp_path, observer=events.append).record
    (said,) = [event.message for event in events if isinstance(event, PhaseEnded) and event.phase == "confirm"]
    assert f"(trial {record['winner']['trial']})" in said
    assert record["winner"]["trial"] > 1  # else this shows nothing: two are confirmed


def test_the_winner_of_a_search_on_the_full_network_is_trained_again(tmp_path: Path) -> None:
    """There is no training besides the search's own, whose number and seed the winner has."""

    def by_seed(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        score = params["lr"] + 0 * params["steps"] + report.seed / 2**40
        report(score, report.epochs)
        touch(model)
        return float(score)

    search = Search(direction="maximize", n_trials=3, optimizer="random", trial_pruner="none")
    result = tiny_tune(tmp_path, by_seed, ladder="full", search=search, pruning=Pruning())
    assert retrain(tmp_path, net, by_seed).score == result.score
    assert retrain(tmp_path, net, by_seed, seed=7).score == result.params["lr"] + 7 / 2**40


@pytest.mark.parametrize(("ladder", "noted"), [("full", False), ("paper", True)])
def test_the_transfer_is_a_matter_of_narrower_networks(tmp_path: Path, ladder: str, noted: bool) -> None:
    search = Search(direction="maximize", n_trials=2, optimizer="random", trial_pruner="none")
    pruning = HALF if ladder == "paper" else Pruning()
    record = tiny_tune(tmp_path, ladder=ladder, search=search, pruning=pruning).record
    assert any("transfer" in note for note in record["search"]["notes"]) == noted
