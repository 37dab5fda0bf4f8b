"""The page of a run with a rung between, and of one with a single rung."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import RESULT, four_trials
from test_page import figures_of, page_of

from prunetune.report import load_run
from prunetune.report.prose import lead

NARROW, LONGER = "1/8 of the width, 1/3 of the epochs", "1/4 of the width"
LADDER: dict[str, Any] = {
    "asked": {"ladder": "default", "n_trials": None, "confirm": None, "trainings": None, "seconds": None},
    "rungs": [
        {"network": NARROW, "entrants": 5, "price": 0.1, "study": "search", "epochs": 3},
        {"network": LONGER, "entrants": 2, "price": 0.5, "study": "rung-0.25"},
        {"network": "the full network", "entrants": 1, "price": 1.0, "study": "confirm"},
    ],
    "reasons": ["No rung has 1/9 of the epochs: 17 training steps tell too little."],
    "total": 2.5,
    "customary": 24.0,
}


def climbed(rungs: int = 3) -> dict[str, Any]:
    """RESULT on a ladder: 240 s are 24 full trainings, so the 2.5 of the run are 25 s."""
    result = copy.deepcopy(RESULT)
    result["ladder"] = {**LADDER, "rungs": LADDER["rungs"][-rungs:]}
    if rungs == 3:
        up = [{"trial": 0, "score": 0.6, "outcome": "complete"}, {"trial": 1, "score": 0.9, "outcome": "complete"}]
        result["climbs"] = [{"study": "rung-0.25", "network": LONGER, "seconds": 12.0, "trained": up}]
        result["confirm"] = 1
        result["confirmation"] = [{**result["confirmation"][1], "proxy_score": 0.9}]
        return result
    result["confirm"] = 0
    del result["confirmation"]
    return result


@pytest.fixture
def text(make_run: Callable[..., Path]) -> str:
    return page_of(make_run(climbed(), four_trials())).text


def test_the_cost_stands_beside_the_customary_search(text: str) -> None:
    top = text[text.index("The answer") : text.index("With all digits")]
    assert "Trial 1 won: the only one of 5 configurations that went up the whole ladder, to the full network." in top
    assert (
        "The search cost 2.5 full trainings (25 s) as measured, the winner's own included; "
        "what is no training (cutting, timing, storage, reports) is not counted." in top
    )
    assert "50 trials of TPE with Hyperband on the full network, would have cost about 24 (4 min)." in top


def test_the_ladder_comes_before_what_was_cut(text: str) -> None:
    ladder = text[text.index("The ladder") : text.rindex("What was cut")]
    assert f"1. {NARROW} 5 3 0.1 1.33 1 min 0.8" in ladder  # 60 s / 5 / 9 s; three of the five have a score
    assert f"2. {LONGER} 2 - 0.5 0.667 12 s 0.9" in ladder
    assert "3. the full network 1 - 1 1 9.0 s 0.95" in ladder
    assert LADDER["reasons"][0] in ladder


def test_the_first_network_is_called_rung_1(text: str) -> None:
    assert "What the search did on rung 1" in text
    assert "score on rung 2 score on the full network" in text
    assert "on the proxy" not in text
    assert "Confirm" not in text


def test_a_ladder_of_one_rung_is_the_full_network(make_run: Callable[..., Path]) -> None:
    folder = make_run(climbed(rungs=1), four_trials())
    said = lead(load_run(folder)).sentence
    assert said == "Trial 1 won: the best of 5 configurations, all of them trained on the full network."
    assert "There is no rung below to compare with: the search was on the full network itself." in page_of(folder).text


@pytest.mark.parametrize("rungs", [3, 1])
def test_every_figure_has_its_place_on_the_page(make_run: Callable[..., Path], rungs: int) -> None:
    """The script draws them all, and gives up all where one has none."""
    page = page_of(make_run(climbed(rungs), four_trials()))
    places = {attributes.get("id") for attributes in page.all("div")}
    assert set(figures_of(page)) <= places


def test_the_table_has_the_scores_of_those_that_went_up(text: str) -> None:
    assert "Scores of those that went up trial rung 1 rung 2 rung 3 1" in text
    table = text[text.index("Scores of those that went up") :]
    assert table.index(" 0.9 ") < table.index(" 0 ")  # the winner's row is the first


def test_it_says_how_it_is_decided_who_goes_on(text: str) -> None:
    assert "the rank on the rung and half of the rank on the one below" in text


def test_the_task_of_a_configuration_is_named(make_run: Callable[..., Path]) -> None:
    folder = make_run(climbed(), four_trials())
    (folder / "config.json").write_text('{"model": {"name": "resnet8"}, "data": {"name": "digits"}}')
    text = page_of(folder).text
    assert "Trial 1 won for resnet8 on digits: the only one of 5 configurations" in text
    for damaged in ("[]", '{"model": 3}', "{"):
        (folder / "config.json").write_text(damaged)
        assert "Trial 1 won: the only one of 5" in page_of(folder).text
