"""The drill that asks whether budgets are kept, on one epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.budgets import runs
from benchmarks.budgets.__main__ import main
from benchmarks.common import lines


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SEARCH", runs.SEARCH.replace("epochs=36", "epochs=1"))


def test_a_budget_in_full_trainings_is_killed_on_the_way_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    asked = ["--budget", "4", "--starts", "1", "--kill", "--json", str(file)]
    status = main(asked)
    (row,) = lines.results(file)
    assert row["status"] == 0
    assert row["kills"]  # it was killed, and went on
    assert 0.5 < row["score"] <= 1
    assert row["share"] == pytest.approx(row["trainings"] / 4)
    assert status == int(row["share"] > 1.1)


def test_what_ends_without_a_winner_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "SEARCH", "raise SystemExit(3)")
    assert main(["--budget", "1m", "--starts", "1"]) == 1
    assert capsys.readouterr().out.rstrip().endswith("NO")
