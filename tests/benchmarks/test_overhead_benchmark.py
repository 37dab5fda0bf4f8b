"""The price of a search besides its trainings, beside plain Optuna's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.overhead import __main__ as overhead
from benchmarks.overhead.cases import by_trial


def test_a_row_for_ours_and_one_for_optuna(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    asked = ["--trials", "3", "--optimizer", "random", "--no-resnet56", "--json", str(file)]
    assert overhead.main(asked) == 0
    found = json.loads(file.read_text())
    ours, optuna = found["rows"]
    assert (ours["who"], optuna["who"]) == ("now", "optuna") and ours["trials"] == optuna["trials"] == 3
    assert 0 < optuna["ms a trial"] < ours["ms a trial"] < 1000
    assert ours["fixed s"] > 0 and ours["report s"] > 0 and 0.1 < ours["report MB"] < 5
    assert found["machine"]["threads"] == 1 and "optuna" in capsys.readouterr().out


def test_the_first_and_the_last_hundred() -> None:
    ends = [0.0, *(0.001 * n for n in range(1, 101)), *(0.1 + 0.003 * n for n in range(1, 201))]
    assert by_trial(ends) == pytest.approx({"ms a trial": 700 / 300, "first hundred": 1.0, "last hundred": 3.0})
