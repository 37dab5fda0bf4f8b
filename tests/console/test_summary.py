"""The tables on the terminal: eighty columns cut no number and no name off, whatever the space is called."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group
from rich.table import Table
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.console.summary import check_table, comparison_table, confirmation_table, number, summary
from prunetune.report.figures.comparison import headline

FOLDERS = Path(__file__).parents[1] / "compatibility" / "format1"
NAMES = [f"a_hyperparameter_with_a_long_name_{place}" for place in range(9)]
PARAMS = {name: 0.000123456 * (place + 1) for place, name in enumerate(NAMES)}


def record(folder: str, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDERS / folder / file).read_text())
    return found


def printed(table: Table | Group, width: int = 80) -> str:
    plain = Console(width=width, no_color=True)
    with plain.capture() as found:
        plain.print(table)
    return found.get()


def checked() -> Table:
    found = record("configured", "check.json")
    found["space"] = PARAMS
    for entry in found["configurations"]:
        entry["params"] = PARAMS
    return check_table(found)


def confirmed() -> Table:
    found = record("configured", "result.json")
    found["space"] = PARAMS
    for entry in found["confirmation"]:
        entry["params"] = PARAMS
    return confirmation_table(found)


@pytest.mark.parametrize("table", [checked, confirmed], ids=["check", "confirmation"])
def test_nine_hyperparameters_fit_eighty_columns(table: Any) -> None:
    text = printed(table())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    whole = "".join(text.split())
    for name, value in PARAMS.items():
        assert name in whole
        assert number(value) in whole


def test_a_comparison_fits_eighty_columns() -> None:
    found = record("compared", "compare.json")
    for row in found["rows"]:
        row.update(name="magnitude+max+lamp, params 0.0625, transfer identity", optimizer="optuna:tpe-multivariate")
        row.update(cost=0.123, search_cost=1234.5, confirmed_cost=1237.5)
        row["regret"]["mean"] = 0.000123456
    text = printed(comparison_table(found))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("1234.5") == text.count("0.0001235") == len(found["rows"])


def rows(*regrets: tuple[str, float, float | None, float | None, float]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "optimizer": "random",
            "kind": "proxy",
            "regret": {"mean": mean, "low": low, "high": high},
            "search_cost": cost,
            "regret_confirmed": None,
            "confirmed_cost": None,
        }
        for name, mean, low, high, cost in regrets
    ]


def test_a_clear_winner_is_named() -> None:
    text = headline(rows(("dear", 0.1, 0.05, 0.15, 9.0), ("cheap", 0.5, 0.4, 0.6, 2.0)))
    assert text.startswith("The least regret, 0.1, was that of dear, which cost 9 trainings")


@pytest.mark.parametrize("low", [0.14, None], ids=["intervals meet", "one seed"])
def test_no_winner_is_named_out_of_noise(low: float | None) -> None:
    high = None if low is None else 0.15
    text = headline(rows(("dear", 0.1, 0.05, high, 9.0), ("cheap", 0.2, low, 0.3, 2.0), ("bad", 0.9, 0.8, 1.0, 1.0)))
    near = 2 if low is not None else 3
    assert text.startswith(f"No way is clearly the best: the regrets of {near} of 3 ")
    assert ("cheapest of them is cheap, which cost 2 " in text) == (near == 2)


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands])  # type: ignore[union-attr]
def test_a_help_page_swallows_no_word(command: str) -> None:
    """Not what stands in brackets, which some markups take for theirs."""
    (asked,) = [c for c in app.registered_commands if (c.name or c.callback.__name__) == command]  # type: ignore[union-attr]
    assert asked.callback is not None
    page = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    words = re.findall(r"[\w\[\]./-]+", (asked.callback.__doc__ or "").replace("`", ""))
    assert words
    assert [word for word in words if word not in page] == []


def test_a_ladder_says_what_it_cost_beside_the_customary_search() -> None:
    """600 s are 24 full trainings, so the 2.5 that were trained are 62.5 s."""
    found = record("configured", "result.json")
    between = {"network": "1/4 of the width", "entrants": 2, "price": 0.1, "study": "between"}
    first = {"network": "1/8 of the width", "entrants": 3, "price": 0.02, "study": "search"}
    last = {"network": "the full network", "entrants": 1, "price": 1.0, "study": "confirm"}
    found["ladder"] = {"rungs": [first, between, last], "total": 2.5, "customary": 24.0}
    found["climbs"] = [{"study": "between", "seconds": 7.0, "trained": [{"trial": 0}, {"trial": 1}]}]
    found["confirmation"] = found["confirmation"][:1]
    found["time"] |= {"search_on_base_estimate": 600.0, "climb": 8.0}
    text = printed(summary(found))
    assert re.search(r"^cost +2\.5 full trainings \(1 min 02 s\) *$", text, re.MULTILINE)
    assert re.search(r"^customary search +about 24 full trainings \(10 min 00 s\), an estimate *$", text, re.MULTILINE)
    assert re.search(r"^2\. 1/4 of the width +2 +0\.1 +7\.0 s *$", text, re.MULTILINE)
    assert text.index("The ladder") < text.index("Trained on the full network")
    assert "on rung 1: " in text
    assert "proxy" not in text
