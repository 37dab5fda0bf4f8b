"""What a report and the terminal say of the race and of the refinement."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunetune.console.summary import summary
from prunetune.report import load_run, tables
from prunetune.report.figures.cost import phase_seconds
from prunetune.report.page import render
from prunetune.report.prose import lead, raced, refinement, tuning_seconds

MakeRun = Callable[..., Path]

STOPPED = "stopped after epoch 1 of 3: 0.2 behind the best, where scores moved by 0.1 at most until the end"


@pytest.fixture
def refined(result: dict[str, Any]) -> dict[str, Any]:
    """Trial 2 of the confirmation was stopped; of three refined trials the second won and the third was stopped."""
    result["confirmation"][2].update(base_score=None, outcome="pruned", epochs=1, message=STOPPED)
    for entry in result["confirmation"]:
        entry.setdefault("epochs", 3)
    result.update(race=True, raced={"stopped": 1, "epochs_saved": 2, "seconds_saved": 6.0}, refine=3)
    whole = {"outcome": "complete", "seconds": 9, "epochs": 3}
    trials = [
        {"refine_trial": 1, "params": {"lr": 0.15}, "base_score": 0.94, **whole},
        {"refine_trial": 2, "params": {"lr": 0.22}, "base_score": 0.97, **whole},
        {"refine_trial": 3, "params": {"lr": 0.3}, "outcome": "pruned", "base_score": None, "seconds": 3, "epochs": 1},
    ]
    result["refinement"] = {
        "space": {"lr": {"type": "float", "low": 0.05, "high": 0.4, "log": True}},
        "told": {"base": 3, "proxy": 1},
        "trials": trials,
        "raced": {"stopped": 1, "epochs_saved": 2, "seconds_saved": 6.0},
    }
    result["winner"] = {"trial": None, "refine_trial": 2, "params": {"lr": 0.22}, "score": 0.97}
    result["time"].update(refine=21.0, total=121.0)
    return result


def test_sentences(make_run: MakeRun, refined: dict[str, Any]) -> None:
    run = load_run(make_run(refined))
    assert lead(run).sentence == "Trial 2 of the refinement on the full network won: it beat all that was confirmed."
    assert lead(run).facts[0].note == "on the full network; higher is better"
    assert raced(run) == (
        "They raced each other: one was stopped early, clearly behind the best, which saved 2 epochs on the full "
        "network, about 6.0 s. What was stopped early cannot win."
    )
    assert refinement(run) == (
        "3 trials were run on the full network itself, in ranges around the best; the optimizer was told of 3 "
        "trainings of the full network and 1 of the proxy before. The best is 0.02 better than the best that was "
        "confirmed. One was stopped early, clearly behind, which saved 2 epochs, about 6.0 s."
    )


def test_where_refining_brought_nothing_it_says_so(make_run: MakeRun, refined: dict[str, Any]) -> None:
    refined["refinement"]["trials"][1]["base_score"] = 0.93
    refined["winner"] = {"trial": 1, "params": {"lr": 0.2}, "score": 0.95}
    refined["raced"]["stopped"] = 0
    run = load_run(make_run(refined))
    assert lead(run).sentence == "Trial 1 won: the best of 2 configurations that were confirmed on the full network."
    assert "The best is 0.01 short of the best that was confirmed." in refinement(run)  # 0.94, 0.95
    assert raced(run) == "They raced each other: none was so far behind the best that it was stopped early."
    assert tables.refinement(run).marked is None


def test_those_that_the_race_stopped_are_counted(make_run: MakeRun, refined: dict[str, Any]) -> None:
    refined["winner"] = {"trial": 1, "params": {"lr": 0.2}, "score": 0.95}
    sentence = "Trial 1 won: the best of 3 on the full network, of which one was stopped early, clearly behind."
    assert lead(load_run(make_run(refined))).sentence == sentence


def test_tables_and_time(make_run: MakeRun, refined: dict[str, Any]) -> None:
    run = load_run(make_run(refined))
    table = tables.refinement(run)
    assert table.marked == 1
    assert table.rows[1] == ("2 (winner)", "complete", "0.97", "9.0 s", "0.22")
    assert table.rows[2][1:3] == (tables.outcome("pruned"), tables.NONE)
    assert tables.confirmation(run).rows[2][-1] == STOPPED
    assert tables.confirmation(run).marked is None
    assert tables.refined_space(run).rows == (("lr", "0.05 to 0.4, on a logarithmic scale"),)
    assert tuning_seconds(run) == 1.5 + 0.5 + 60 + 28 + 21
    assert ("refine", 21.0) in [(label, seconds) for label, seconds, _ in phase_seconds(run)]


def test_the_page_has_both(make_run: MakeRun, refined: dict[str, Any]) -> None:
    page = render(load_run(make_run(refined)))
    assert "They raced each other: one was stopped" in page
    assert "Refined on the full network" in page
    assert "Ranges of the refinement" in page
    assert "race on the full network" in page


def test_a_run_without_either_says_nothing_of_them(make_run: MakeRun, result: dict[str, Any]) -> None:
    run = load_run(make_run(result))
    assert (raced(run), refinement(run)) == ("", "")
    assert tables.refinement(run).rows == ()


def test_the_terminal_has_both(refined: dict[str, Any], tmp_path: Path) -> None:
    refined["cost"]["trial"] = {"fidelity": {}, "predicted": None, "measured": None}
    said = io.StringIO()
    Console(file=said, width=200).print(summary(refined))
    text = re.sub(r" +", " ", said.getvalue())
    assert "trial 2 0.6 stopped early, epoch 1 9.0 s lr 0.3" in text
    assert "trial 2, winner 0.97 9.0 s lr 0.22" in text
    assert "trial 3 stopped early, epoch 1 3.0 s lr 0.3" in text
    assert "confirmation 28.0 s on the full network; 1 stopped early, 2 epochs saved, about 6.0 s" in text
    assert "refinement 21.0 s on the full network; 1 stopped early, 2 epochs saved, about 6.0 s" in text
