"""The race on the full network, with learning curves that are written down: who is stopped, when, what that saves."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from torch import nn

import prunetune.tuning.objective
from prunetune.backends import Categorical
from prunetune.backends.pruners.race import Race, movement, score_at, stops
from prunetune.backends.study.attributes import PROXY_CURVE, TOLD
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from prunetune.events import Event, PhaseEnded, PhaseStarted, TrialEnded
from prunetune.tuning.tuner import Search, TuneResult, tune
from tiny_tune import HALF, INPUTS, make_quick, net, tiny_tune, width

pytestmark = pytest.mark.filterwarnings("error")

FLAT = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
PROXY = {"a": [*FLAT, 0.9], "b": [*FLAT[:3], *[0.8] * 5], "c": [*FLAT[:1], *[0.7] * 7]}
"""Learning curves of eight epochs. a is the best, b moves by nothing from epoch 4 on, c by nothing from epoch 2 on."""
BASE = {
    # from epoch 2, 4, 6 on its scores move by 0.3, 0.1, 0
    "a": [0.1, 0.4, 0.5, 0.6, 0.65, 0.7, 0.7, 0.7],
    # behind by 0.2 after epoch 2, by 0.15 after epoch 4
    "b": [0.1, 0.2, 0.3, 0.45, 0.5, 0.6, 0.8, 0.9],
    # behind by 0.35 after epoch 2
    "c": [0.0, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
}
Curves = Mapping[str, Sequence[float]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out; and each epoch takes a second of the clock."""
    make_quick(monkeypatch)
    monkeypatch.setattr(prunetune.tuning.objective, "time", types.SimpleNamespace(perf_counter=lambda: Scripted.now))


class Scripted:
    """A train function that follows the curves; it reports after the epochs ``told`` (all of them)."""

    now = 0.0

    def __init__(self, proxy: Curves = PROXY, base: Curves = BASE, told: Sequence[int] = range(1, 9)) -> None:
        self.curves = {8: proxy, 16: base}
        self.told = told
        self.trained: list[tuple[str, int]] = []  # on the full network: which, and to which epoch
        self.interrupt_at: tuple[str, int] | None = None

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        which, curve = params["which"], self.curves[width(model)][params["which"]]
        for epoch, score in enumerate(curve, 1):
            Scripted.now += 1.0
            if width(model) == 16:
                self.trained = [*(each for each in self.trained if each[0] != which), (which, epoch)]
                if self.interrupt_at == (which, epoch):
                    self.interrupt_at = None
                    raise KeyboardInterrupt
            if epoch in self.told:
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
        epochs=8,
        run_dir=run_dir,
        pruning=HALF,
        search=Search(direction="maximize", **given),
        observer=observer,
    )


def ends(result: TuneResult) -> list[tuple[str, str, int]]:
    return [(each["params"]["which"], each["outcome"], each["epochs"]) for each in result.record["confirmation"]]


def test_who_is_behind_by_more_than_scores_still_move_is_stopped(tmp_path: Path) -> None:
    events: list[Event] = []
    train = Scripted()
    result = confirm(tmp_path, train, observer=events.append)
    assert train.trained == [("a", 8), ("b", 4), ("c", 2)]
    assert ends(result) == [("a", "complete", 8), ("b", "pruned", 4), ("c", "pruned", 2)]
    assert (result.params, result.score) == ({"which": "a"}, 0.7)
    entry = result.record["confirmation"][1]
    assert (entry["base_score"], entry["proxy_score"]) == (None, 0.8)
    assert entry["message"] == (
        "stopped after epoch 4 of 8: 0.15 behind the best, where scores moved by 0.1 at most until the end"
    )
    assert result.record["raced"] == {"stopped": 2, "epochs_saved": 4 + 6, "seconds_saved": pytest.approx(4 + 6)}
    (started,) = [event for event in events if isinstance(event, PhaseStarted) and event.phase == "confirm"]
    assert started.notes == (
        (
            "race: a training is stopped after epoch 2, 4, 6 of 8 where it is clearly behind the best that has "
            "finished, which saves 6, 4, 2 epochs"
        ),
    )
    outcomes = [event.outcome for event in events if isinstance(event, TrialEnded) and event.phase == "confirm"]
    assert outcomes == ["complete", "pruned", "pruned"]
    assert not list(tmp_path.glob("weights-*-*"))


def test_without_the_race_all_run_to_their_end(tmp_path: Path) -> None:
    train = Scripted()
    result = confirm(tmp_path, train, race=False)
    assert train.trained == [("a", 8), ("b", 8), ("c", 8)]
    assert (result.params, result.score) == ({"which": "b"}, 0.9)
    assert [each["message"] for each in result.record["confirmation"]] == ["", "", ""]
    assert "raced" not in result.record


def test_a_train_function_that_reports_nothing_is_never_stopped(tmp_path: Path) -> None:
    events: list[Event] = []
    result = confirm(tmp_path, Scripted(told=()), observer=events.append)
    assert [outcome for _, outcome, _ in ends(result)] == ["complete"] * 3
    assert [event.message for event in events if isinstance(event, TrialEnded)] == [""] * 6
    assert result.record["raced"] == {"stopped": 0, "epochs_saved": 0, "seconds_saved": 0}


def test_a_race_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    train = Scripted()
    train.interrupt_at = ("b", 3)
    with pytest.raises(KeyboardInterrupt):
        confirm(tmp_path, train)
    result = confirm(tmp_path, train)
    assert sorted(ends(result)) == [
        ("a", "complete", 8),
        ("b", "interrupted", 2),
        ("b", "pruned", 4),
        ("c", "pruned", 2),
    ]
    assert result.record["raced"]["epochs_saved"] == 10
    assert confirm(tmp_path, train).already_finished


def test_a_run_without_the_race_cannot_go_on_with_it(tmp_path: Path) -> None:
    confirm(tmp_path, Scripted(), race=False)
    with pytest.raises(InputError, match="was started with race = False, now it is True"):
        confirm(tmp_path, Scripted())
    with pytest.raises(InputError, match="race is 'yes', but it must be true or false"):
        Search(direction="maximize", race="yes")  # type: ignore[arg-type]


# The rule itself, on a study in memory


def race(
    base: Curves = BASE,
    proxy: Curves = PROXY,
    *,
    told: Sequence[int] = range(1, 9),
    direction: str = "maximize",
    diverged: str = "",
) -> dict[str, int]:
    """After which epoch each of ``base`` was stopped, or 8."""
    study = optuna.create_study(direction=direction, pruner=Race(8))
    ended = {}
    for which, curve in base.items():
        study.enqueue_trial({}, user_attrs={PROXY_CURVE: [(e, s) for e, s in enumerate(proxy[which], 1) if e in told]})
        trial = study.ask()
        for epoch in told:
            trial.report(curve[epoch - 1], epoch)
            if epoch < 8 and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                ended[which] = epoch
                break
        else:
            trial.set_user_attr("outcome", "diverged" if which == diverged else "complete")
            study.tell(trial, curve[-1])
            ended[which] = 8
    return ended


def flipped(curves: Curves) -> dict[str, list[float]]:
    return {name: [1 - score for score in curve] for name, curve in curves.items()}


def test_losses_race_too() -> None:
    assert race() == race(flipped(BASE), flipped(PROXY), direction="minimize") == {"a": 8, "b": 4, "c": 2}


def test_a_configuration_that_moved_late_on_the_proxy_is_given_the_time() -> None:
    """b's scores on the proxy move by 0.3 from epoch 4 on, more than the 0.15 that it is behind; and it leads.

    From epochs 2, 4, 6 on b itself moves by 0.7, 0.45, 0.3, where c is behind it by 0.15, 0.35, 0.5.
    """
    late = {**PROXY, "b": [0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.8]}
    assert race(proxy=late) == {"a": 8, "b": 8, "c": 6}


def test_a_dip_at_the_stop_is_no_reason() -> None:
    """The best score so far counts: after epoch 4, b is 0.05 behind, although its score just then is 0.2."""
    assert race({**BASE, "b": [0.1, 0.2, 0.55, 0.2, 0.6, 0.7, 0.8, 0.9]})["b"] == 8


def test_what_is_reported_seldom_is_judged_at_the_next_report() -> None:
    """After 3 a has 0.5 and moves by 0.2 from there, c is 0.4 behind; after 6 nothing moves, and b is 0.1 behind."""
    assert race(told=(3, 6)) == {"a": 8, "b": 6, "c": 3}


def test_one_that_diverged_is_nobody_to_be_compared_with() -> None:
    assert race(diverged="a") == {"a": 8, "b": 8, "c": 6}


def test_one_that_ran_on_a_proxy_is_nobody_to_be_compared_with() -> None:
    study = optuna.create_study(direction="maximize", pruner=Race(8))
    for network in ("proxy", "base"):
        told = {"outcome": "complete", TOLD: network}
        values = dict(enumerate(BASE["a"], 1))
        study.add_trial(optuna.trial.create_trial(value=0.7, intermediate_values=values, user_attrs=told))
        trial = study.ask()
        trial.report(0.0, 2)
        assert trial.should_prune() == (network == "base")


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, ()), (2, (1,)), (3, (1, 2)), (4, (1, 2, 3)), (9, (3, 5, 7)), (160, (40, 80, 120))],
)
def test_quarters_rounded_up(epochs: int, expected: tuple[int, ...]) -> None:
    assert stops(epochs) == expected


def test_a_race_of_one_or_over_one_epoch_is_not_spoken_of() -> None:
    assert Race(1).note(3) == Race(9).note(1) == ""
    assert Race(2).note(2).startswith("race: a training is stopped after epoch 1 of 2")


def test_scores_between_reports() -> None:
    curve = [(2, 0.25), (4, 0.75), (6, 0.5)]
    assert [score_at(curve, epoch) for epoch in (1, 2, 3.5, 9)] == [None, 0.25, 0.25, 0.5]
    assert [movement(curve, epoch) for epoch in (0, 2, 4, 5, 6)] == [0.5, 0.5, 0.25, 0.25, 0.0]
    assert movement([], 1) == 0.0


def test_the_best_of_a_confirmation_has_its_number_in_the_search(tmp_path: Path) -> None:
    events: list[Event] = []
    record = tiny_tune(tmp_path, observer=events.append).record
    (said,) = [event.message for event in events if isinstance(event, PhaseEnded) and event.phase == "confirm"]
    assert f"(trial {record['winner']['trial']})" in said
    assert record["winner"]["trial"] > 1  # else this shows nothing: two are confirmed
