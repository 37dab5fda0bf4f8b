"""A search that will not pay is told before it begins, and one that did not when it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

import prunetune.engine
from prunetune.backends import Float, SearchSpace
from prunetune.checking.proxy_check import check
from prunetune.events import Event, Notice, PhaseStarted
from prunetune.record.sentences import did_not_pay
from prunetune.tuning.saving import will_not_pay
from prunetune.tuning.settings import Pruning, Search, Settings
from tiny_tune import HALF, INPUTS, SPACE, net, tiny_tune, train

LR = SearchSpace({"lr": Float(0.1, 1.0)})


def settings(*, trial_pruner: str = "none", epochs: int = 9, ratio: float = 0.5, **search: object) -> Settings:
    asked = Search(direction="maximize", optimizer="random", trial_pruner=trial_pruner, **search)  # type: ignore[arg-type]
    return Settings(LR, epochs, Pruning(ratio=ratio), asked, 0)


def test_a_trial_must_cost_less_than_the_share_that_a_check_asks_for() -> None:
    """By hand: 100 trials and 3 confirmations, of which the race may stop some; 1 / 1.2 is 0.8333."""
    asked = settings(n_trials=100, confirm=3)
    assert will_not_pay(asked, 0.83) == ""
    told = will_not_pay(asked, 0.84)
    assert "predicted to cost 0.84 of a full training" in told
    assert "about 84 full trainings and what follows that of up to 3, where" in told
    assert "takes that of about 100; a smaller proxy" in told


@pytest.mark.parametrize(
    ("n_trials", "confirm", "refine", "trial", "pays"),
    [
        (10, 3, 0, 0.5, True),  # 5 + 3 < 10
        (10, 3, 2, 0.5, False),  # 5 + 3 + 2 = 10
        (10, 0, 0, 0.8, True),  # 8 + 1 < 10: the winner is trained in any case
        (2, 3, 0, 0.1, False),  # 0.2 + 2 > 2: there are no more than two to confirm
        (10, "auto", 0, 0.3, False),  # 3 + 8 > 10
    ],
)
def test_what_follows_the_search_counts(
    n_trials: int, confirm: int | str, refine: int, trial: float, pays: bool
) -> None:
    told = will_not_pay(settings(n_trials=n_trials, confirm=confirm, refine=refine), trial)
    assert (told == "") == pays
    assert pays or "more trials or fewer trainings after them" in told


def test_a_trial_pruner_makes_both_searches_cheaper_and_not_what_follows() -> None:
    """ASHA lets one in three go on after epochs 1 and 3 of 9: far fewer than 16 of 20 full trainings, half being 8."""
    assert will_not_pay(settings(n_trials=20, confirm=8), 0.5) == ""  # 10 + 8 < 20
    assert "more trials" in will_not_pay(settings(n_trials=20, confirm=8, trial_pruner="asha"), 0.5)


def test_who_searches_on_the_full_network_is_told_nothing() -> None:
    assert will_not_pay(settings(n_trials=4, ratio=1), 1.0) == ""


def test_a_run_says_it_before_the_search_and_in_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunetune.engine, "step_time", lambda models, inputs: {"base": 1.0, "proxy": 0.95})
    events: list[Event] = []
    record = tiny_tune(tmp_path, observer=events.append).record
    (at,) = [
        place for place, each in enumerate(events) if isinstance(each, Notice) and "not expected to pay" in each.message
    ]
    notice = events[at]
    assert isinstance(notice, Notice)
    assert "predicted to cost 0.95 of a full training" in notice.message
    assert at < next(n for n, each in enumerate(events) if isinstance(each, PhaseStarted) and each.phase == "search")
    assert record["search"]["notes"].count(notice.message) == 1


def test_a_check_says_it_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunetune.engine, "step_time", lambda models, inputs: {"base": 1.0, "proxy": 0.95})
    for _ in range(2):  # the second time nothing is trained, and what was measured is known
        events: list[Event] = []
        result = check(
            net, train, SPACE, example_inputs=INPUTS, epochs=2, run_dir=tmp_path / "run", pruning=HALF,
            search=Search(direction="maximize", n_trials=4), observer=events.append, configurations=4,
        )  # fmt: skip
        first = events[: next(n for n, each in enumerate(events) if isinstance(each, PhaseStarted))]
        assert any(isinstance(each, Notice) and "predicted to cost 0.95" in each.message for each in first)
        assert any("predicted to cost 0.95" in note for note in result.record["notes"])


def test_what_did_not_pay_is_said_with_what_it_took() -> None:
    """By hand: 1 + 2 + 5 + 4 + 0 seconds, where the search on the full network would have taken 10."""
    spent = {"prune": 1.0, "measure": 2.0, "search": 5.0, "confirm": 4.0, "refine": 0.0, "total": 13.0}
    run = {"pruning": {"ratio": None}, "time": {**spent, "search_on_base_estimate": 10.0}}
    assert "it took 1.2 times as long as the search on the full network would have taken" in did_not_pay(run)
    for estimate in (12.5, None):
        assert did_not_pay({**run, "time": {**spent, "search_on_base_estimate": estimate}}) == ""
