"""What the report says to do next, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunetune.report import load_run
from prunetune.report.next_steps import next_steps, place_in_range
from prunetune.report.page import render
from prunetune.report.run import Run

MakeRun = Callable[..., Path]
SPACE = {
    "lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "log": False},
    "kind": {"type": "categorical", "choices": ["a", "b"]},
}


def of(make_run: MakeRun, result: dict[str, Any], params: dict[str, Any], **changes: Any) -> Run:
    winner = {**(result["winner"] or {}), "params": params}
    return load_run(make_run({**result, "space": SPACE, "winner": winner, **changes}))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"lr": 0.01, "momentum": 0.5, "kind": "a"}, []),
        ({"lr": 0.7, "momentum": 0.5}, ["lr = 0.7 is at the upper end of its range: search larger values"]),  # .961
        ({"lr": 0.6, "momentum": 0.5}, []),  # 0.944 of the way from 1e-4 to 1, by logarithms
        ({"lr": 1.5e-4, "momentum": 0.5}, ["lr = 0.00015 is at the lower end of its range: search smaller values"]),
        ({"lr": 0.01, "momentum": 0.04}, ["momentum = 0.04 is at the lower end"]),  # 0.044
        ({"lr": 0.01, "momentum": 0.05}, []),  # 0.056
    ],
)
def test_a_range_that_was_too_narrow(
    make_run: MakeRun, result: dict[str, Any], params: dict[str, Any], said: list[str]
) -> None:
    found = [step for step in next_steps(of(make_run, result, params)) if "range" in step]
    assert [step.startswith(start) for step, start in zip(found, said, strict=True)] == [True] * len(said)


def test_places_by_hand() -> None:
    assert place_in_range({"low": 0, "high": 10}, 2.5) == pytest.approx(0.25)
    assert place_in_range({"low": 1e-4, "high": 1.0, "log": True}, 0.01) == pytest.approx(0.5)
    for dimension, value in (
        (None, 1),
        ({"choices": [1]}, 1),
        ({"low": 0, "high": 1}, "a"),
        ({"low": 0, "high": 1}, True),
    ):
        assert place_in_range(dimension, value) is None
    assert place_in_range({"low": 1e-4, "high": 1.0, "log": True}, 0.0) is None  # a damaged record


def test_a_run_without_a_winner_has_none(make_run: MakeRun, result: dict[str, Any]) -> None:
    run = load_run(make_run({**result, "winner": None, "status": "searching"}))
    assert next_steps(run) == []
    assert "What next" not in render(run)


def test_the_page_has_them(make_run: MakeRun, result: dict[str, Any]) -> None:
    run = of(make_run, result, {"lr": 1.0}, test=None)
    page = render(run)
    assert "What next" in page
    assert "lr = 1 is at the upper end of its range" in page
    assert "weights.safetensors" in page
    assert any(step.startswith("The score chose the winner") for step in next_steps(run))


def test_what_was_measured_on_other_data_is_not_asked_for(make_run: MakeRun, result: dict[str, Any]) -> None:
    tested = of(make_run, result, {"lr": 0.1}, test={"accuracy": 0.9})
    assert not any(step.startswith("The score chose the winner") for step in next_steps(tested))


@pytest.mark.parametrize(("decision", "told"), [("widen", True), ("leave", True), ("trust", False)])
def test_a_rung_that_ranked_badly(make_run: MakeRun, result: dict[str, Any], decision: str, told: bool) -> None:
    agreement = {"configurations": 9, "controls": 2, "decision": decision, "sentence": "…", "spearman": 0.12}
    climb = {"study": "r", "network": "1/4 of the width", "seconds": 1.0, "trained": [], "agreement": agreement}
    said = next_steps(of(make_run, result, {"lr": 0.1}, climbs=[climb]))
    found = [step for step in said if step.startswith("The rung below 1/4 of the width ranked badly (Spearman 0.12)")]
    assert bool(found) is told
