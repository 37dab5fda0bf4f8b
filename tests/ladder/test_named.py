"""Ladders by name."""

from __future__ import annotations

import pytest

from prunetune.errors import InputError, PluginError
from prunetune.ladder import ladders
from prunetune.ladder.costs import Costs
from prunetune.ladder.named import Situation, plan_by_name
from prunetune.ladder.planner import plan
from prunetune.ladder.rung import Ladder, Rung

COSTS = Costs({(None, 1.0): 0.2, (1 / 4, 1.0): 1 / 7}, epochs=9)


def test_the_names() -> None:
    assert ladders.names() == ["confirm-3", "default", "full", "paper"]


@pytest.mark.parametrize("name", ladders.names())
@pytest.mark.parametrize("n_trials", [None, 1, 2, 30])
@pytest.mark.parametrize("budget", [None, 1.25, 4.0, 9.5])
def test_every_name_makes_a_plan_within_the_budget(name: str, n_trials: int | None, budget: float | None) -> None:
    situation = Situation(COSTS, budget=budget, n_trials=n_trials, steps_per_epoch=100)
    if name == "confirm-3" and budget == 1.25:
        with pytest.raises(InputError, match="budget is 1.25 full trainings, but the least for this ladder is 3.6"):
            plan_by_name(name, situation)
        return
    made = plan_by_name(name, situation)
    assert made.total == pytest.approx(COSTS.total(made.ladder))
    assert budget is None or made.total <= budget
    assert n_trials is None or made.ladder.rungs[0].trials <= n_trials


def test_what_they_are() -> None:
    situation = Situation(COSTS, n_trials=40)
    proxy = Rung(width=None, trials=40)
    assert plan_by_name("paper", situation).ladder == Ladder(Rung(width=None, trials=40, keep=1), Rung())
    assert plan_by_name("paper", situation).total == pytest.approx(9.0)  # 40 x .2 + 1
    assert plan_by_name("confirm-3", situation).ladder == Ladder(Rung(*proxy.kind, trials=40, keep=3), Rung())
    assert plan_by_name("full", situation).ladder == Ladder(Rung(trials=40))
    assert plan_by_name("default", situation) == plan(COSTS, trials=40)


def test_the_budget_counts_where_no_number_is_given() -> None:
    assert plan_by_name("paper", Situation(COSTS, budget=5)).ladder.entrants == (20, 1)  # (5 - 1) / .2
    assert plan_by_name("confirm-3", Situation(COSTS, budget=5)).ladder.entrants == (10, 3)
    assert plan_by_name("full", Situation(COSTS, budget=5.9)).ladder.entrants == (5,)
    assert plan_by_name("paper", Situation(COSTS)).ladder.entrants == (50, 1)


def test_an_unknown_name() -> None:
    with pytest.raises(
        InputError, match="unknown ladder 'papper' \\(did you mean 'paper'\\?\\); known: confirm-3, default"
    ):
        plan_by_name("papper", Situation(COSTS))


def test_one_of_another_package_that_makes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    entry = metadata.EntryPoint("wrong", "builtins:repr", "prunetune.ladders")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry] if group == "prunetune.ladders" else [])
    monkeypatch.setattr(ladders, "_found", None)
    with pytest.raises(
        PluginError, match="the ladder 'wrong' of .* it must make a Plan, and makes an object of type str"
    ):
        plan_by_name("wrong", Situation(COSTS))
    monkeypatch.setattr(ladders, "_found", None)
