"""What the report shows of a ladder, against numbers that were written down by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import four_trials, numbered

from prunetune.report import figures, load_run, tables
from prunetune.report.figures.base import NothingToShow
from prunetune.report.ladder import cost_sentence, ladder_sentences, passed_over
from prunetune.report.run import Run

MakeRun = Callable[..., Path]
LABELS = ["1. 1/8 of the width", "2. 1/4 of the width", "3. the full network"]


@pytest.fixture
def climbed(result: dict[str, Any]) -> dict[str, Any]:
    """Five on the first rung, of which two go up; the second of them wins."""
    networks = [label.split(". ")[1] for label in LABELS]
    studies = ["search", "rung-0.25-3-1-1", "confirm"]
    rungs = [
        {"network": network, "entrants": n, "price": price, "study": study}
        for network, n, price, study in zip(networks, (5, 2, 1), (0.05, 0.25, 1.0), studies, strict=True)
    ]
    agreement = {"configurations": 2, "controls": 0, "decision": "unknown", "sentence": "Two are too few."}
    trained = [{"trial": 0, "score": 0.75, "seconds": 3.0}, {"trial": 1, "score": 0.85, "seconds": 4.0}]
    result["ladder"] = {
        "asked": {"ladder": "default", "n_trials": None, "confirm": None, "trainings": 3.0, "seconds": None},
        "rungs": rungs,
        "reasons": ["No rung has 1/2 of the width: a step takes 0.9 of the full network's, and 1 at 1."],
        "customary": 24.6,
        "total": 2.468,
    }
    result["climbs"] = [{"study": studies[1], "network": networks[1], "seconds": 7.0, "trained": trained}]
    result["climbs"][0]["agreement"] = agreement
    result["confirmation"] = [
        {"trial": 1, "proxy_score": 0.85, "base_score": 0.95, "outcome": "complete", "seconds": 9}
    ]
    return result


@pytest.fixture
def run(make_run: MakeRun, climbed: dict[str, Any]) -> Run:
    return replace(load_run(make_run(climbed)), trials=numbered(four_trials()))


def test_the_picture_has_a_line_for_each_that_went_up_and_names_each_kind_once(run: Run) -> None:
    figure = figures.ladder(run)
    lines = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert lines == {
        "went up": [(LABELS[0], 0.8), (LABELS[1], 0.75)],
        "winner": [(LABELS[0], 0.7), (LABELS[1], 0.85), (LABELS[2], 0.95)],
        "stayed": [(LABELS[0], 0.2)],  # stopped by the trial pruner; what diverged and what failed has no score
    }
    assert sorted(trace.name for trace in figure.data if trace.showlegend is not False) == [
        "stayed",
        "went up",
        "winner",
    ]


def test_a_ladder_of_one_rung_has_no_picture(make_run: MakeRun, climbed: dict[str, Any]) -> None:
    climbed["ladder"]["rungs"] = climbed["ladder"]["rungs"][:1]
    with pytest.raises(NothingToShow):
        figures.ladder(load_run(make_run(climbed)))


def test_the_table_says_what_each_rung_cost(run: Run) -> None:
    rungs = [{**vars(rung), "epochs": epochs} for rung, epochs in zip(run.result.ladder.rungs, (1, 3, 9), strict=True)]
    ladder = replace(run.result.ladder, rungs=tuple(type(run.result.ladder.rungs[0])(**rung) for rung in rungs))
    rows = tables.ladder(replace(run, result=replace(run.result, ladder=ladder))).rows
    trained = len(run.trials)
    assert [(row[0], *row[2:6]) for row in rows] == [  # a full training took 9 s, on the rung below two took 7
        (LABELS[0], "1", "0.05", f"{60 / trained / 9:.3g}", "1 min"),
        (LABELS[1], "3", "0.25", "0.389", "7.0 s"),
        (LABELS[2], "9", "1", "1", "9.0 s"),
    ]
    assert [row[2] for row in tables.ladder(run).rows] == [tables.NONE] * 3  # records of before


def test_sentences_say_what_it_cost_and_why_it_has_this_shape(run: Run) -> None:
    assert "cost 2.47 full trainings (24 s) as measured, the winner's own included" in cost_sentence(run)
    assert "about 25 (4 min)." in cost_sentence(run)  # 240 s are 24.6 full trainings
    assert ladder_sentences(run) == (
        "No rung has 1/2 of the width: a step takes 0.9 of the full network's, and 1 at 1.",
        "Two are too few.",
    )


def test_a_run_that_is_not_at_its_end_says_no_cost(make_run: MakeRun, climbed: dict[str, Any]) -> None:
    climbed["ladder"].update(total=None, customary=None)
    assert cost_sentence(load_run(make_run(climbed))) == ""


def test_it_says_why_a_better_score_stayed_behind(make_run: MakeRun, climbed: dict[str, Any]) -> None:
    """On rung 1 they had 0.8, 0.7, 0.2. On rung 2 trial 2 was first, but by both ranks it is level with trial 0."""
    scores = {0: 0.75, 1: 0.7, 2: 0.8}
    climbed["climbs"][0]["trained"] = [
        {"trial": trial, "score": score, "seconds": 3.0} for trial, score in scores.items()
    ]
    climbed["confirmation"][0]["trial"] = 0
    run = replace(load_run(make_run(climbed)), trials=numbered(four_trials()))
    said = (
        "From rung 2 trial 0 went up and trial 2 did not, whose score there was better (0.8 against 0.75): the ranks "
        "on the rung and below make trial 0 2 + 1/2 = 2.5, trial 2 1 + 3/2 = 2.5; of equal sums the better on the rung "
        "below goes."
    )
    assert passed_over(run) == [said]
    assert said in ladder_sentences(run)


@pytest.mark.parametrize(("decision", "sentences"), [("fine", 1), ("unknown", 1), ("widen", 0), ("leave", 0)])
def test_ranks_of_a_rung_that_was_left_explain_nothing(
    make_run: MakeRun, climbed: dict[str, Any], decision: str, sentences: int
) -> None:
    scores = {0: 0.75, 1: 0.7, 2: 0.8}
    climbed["climbs"][0]["trained"] = [
        {"trial": trial, "score": score, "seconds": 3.0} for trial, score in scores.items()
    ]
    climbed["climbs"][0]["agreement"]["decision"] = decision
    climbed["confirmation"][0]["trial"] = 0
    run = replace(load_run(make_run(climbed)), trials=numbered(four_trials()))
    assert len(passed_over(run)) == sentences


def test_where_the_best_went_up_nothing_is_to_be_explained(run: Run) -> None:
    assert passed_over(run) == []
