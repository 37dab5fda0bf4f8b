"""Records of version 0.1, which knew no ladders, in the report and on the terminal: two rungs, the refined last."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from synthetic_runs import four_trials
from test_page import page_of

from prunetune.console.summary import summary
from prunetune.errors import InputError
from prunetune.record.stored import read_record
from prunetune.report import load_run, tables
from prunetune.report.figures.cost import phase_seconds
from prunetune.report.prose import lead, tuning_seconds

MakeRun = Callable[..., Path]
STOPPED = "stopped after epoch 1 of 3: 0.2 behind the best, where scores moved by 0.1 at most until the end"


@pytest.fixture
def earlier(result: dict[str, Any]) -> dict[str, Any]:
    """As version 0.1 wrote it: of five trials four were confirmed, one stopped by the race; of two refined one won."""
    del result["ladder"]
    result["pruning"]["plan_sha256"] = "0" * 64
    result["cost"]["trial"] = {
        "fidelity": {"resolution": 1.0, "epochs": 1 / 3, "data": 1.0},
        "predicted": {"step": 0.25, "epochs": 1 / 3, "data": 1.0, "total": 1 / 12},
        "measured": {"total": 0.1, "configurations": 3, "epochs": 1 / 3},
    }
    result.update(race=True, refine=2, rungs="truncated", fidelity={"resolution": 1.0, "epochs": 1 / 3, "data": 1.0})
    result["raced"] = {"stopped": 1, "epochs_saved": 2, "seconds_saved": 6.0}
    result["trust"] = {"searched": 5, "confirmed": 4, "missed": 0.2}
    result["confirmation"][2].update(base_score=None, outcome="pruned", epochs=1, message=STOPPED)
    ended = {"outcome": "complete", "seconds": 9, "epochs": 3, "message": ""}
    result["refinement"] = {
        "space": {"lr": {"type": "float", "low": 0.05, "high": 0.4, "log": True}},
        "told": {"base": 3, "proxy": 1},
        "trials": [
            {"refine_trial": 1, "params": {"lr": 0.15}, "base_score": 0.94, **ended},
            {"refine_trial": 2, "params": {"lr": 0.22}, "base_score": 0.97, **ended},
        ],
    }
    result["winner"] = {"trial": None, "refine_trial": 2, "params": {"lr": 0.22}, "score": 0.97}
    result["time"].update(refine=18.0, total=118.0)
    result["time"]["estimate_basis"] = "an estimate: seconds an epoch in the 3 that ran on both"
    return result


def test_what_was_refined_is_counted_on_from_the_trials(make_run: MakeRun, earlier: dict[str, Any]) -> None:
    """Trials 0 to 4 are the search's, so the refined ones are 5 and 6."""
    run = load_run(make_run(earlier))
    assert lead(run).sentence == "Trial 6 won: the best of 4 on the full network, which went up from 5 configurations."
    table = tables.confirmation(run)
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3", "5", "6 (winner)"]
    assert table.rows[5][1:5] == ("complete", tables.NONE, "0.97", "9.0 s")
    assert table.rows[2][-1] == STOPPED
    assert table.marked == 5


def test_the_time_of_refining_is_the_last_rungs(make_run: MakeRun, earlier: dict[str, Any]) -> None:
    run = load_run(make_run(earlier))
    assert tuning_seconds(run) == 1.5 + 0.5 + 60 + 28 + 18
    assert ("train in full", 46.0) in [(label, seconds) for label, seconds, _ in phase_seconds(run)]


def test_the_page_shows_two_rungs(make_run: MakeRun, earlier: dict[str, Any]) -> None:
    text = page_of(make_run(earlier, four_trials())).text
    assert "1. the proxy, 0.333 of the epochs 5 - 0.0833 1.33 1 min 0.8" in text  # 60 s / 5 / (54 s / 6)
    assert "2. the full network 6 - 1 1 54 s 0.97" in text
    assert "The time of the search on the full network is an estimate: seconds an epoch in the 3" in text
    for gone in ("raced", "Refine", "probability", "full trainings (", "of the customary search"):
        assert gone not in text


def test_the_terminal_shows_two_rungs(make_run: MakeRun, earlier: dict[str, Any]) -> None:
    record = read_record(make_run(earlier) / "result.json")
    assert record is not None
    said = io.StringIO()
    Console(file=said, width=200).print(summary(record))
    text = re.sub(r" +", " ", said.getvalue())
    assert "1. the proxy, 0.333 of the epochs 5 0.0833 1 min 00 s" in text
    assert "trial 2 0.6 stopped early, epoch 1 9.0 s lr 0.3" in text
    assert "trial 6, winner 0.97 9.0 s lr 0.22" in text
    assert "last rung 46.0 s on the full network" in text
    assert "customary search" not in text


def test_as_many_confirmations_as_it_took_were_those_that_there_are(make_run: MakeRun, earlier: dict[str, Any]) -> None:
    earlier["confirm"] = "auto"
    folder = make_run(earlier)
    record = read_record(folder / "result.json")
    assert record is not None
    assert record["confirm"] == 6
    assert load_run(folder).rungs == 2


@pytest.mark.parametrize("key", ["status", "direction", "time.total", "winner.score", "cost.proxy.step_seconds"])
def test_a_finished_record_has_all_that_is_said_of_it(make_run: MakeRun, earlier: dict[str, Any], key: str) -> None:
    *parents, last = key.split(".")
    place = earlier
    for name in parents:
        place = place[name]
    del place[last]
    with pytest.raises(InputError, match=rf"is damaged \({re.escape(key)}: Field required\)"):
        read_record(make_run(earlier) / "result.json")


def test_a_record_that_cannot_be_read_as_a_ladder_names_what_is_wrong(
    make_run: MakeRun, earlier: dict[str, Any]
) -> None:
    earlier["confirmation"][0]["trial"] = "first"
    folder = make_run(earlier)
    with pytest.raises(InputError, match=r"is damaged \(confirmation.0.trial: Input should be a valid integer"):
        read_record(folder / "result.json")
    with pytest.raises(InputError, match=r"is not a result.json of prunetune: confirmation.0.trial: Input should be"):
        load_run(folder)
    earlier["confirmation"][0]["trial"] = 0
    earlier["refinement"] = {"trials": [7]}  # which the fields of today say nothing of
    (folder / "result.json").write_text(json.dumps(earlier))
    with pytest.raises(InputError, match=r"is damaged \("):
        read_record(folder / "result.json")
