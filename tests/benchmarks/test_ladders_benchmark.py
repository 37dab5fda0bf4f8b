"""``python -m benchmarks.ladders``: a table that was played by hand, and that the page says what the results say."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ladders.__main__ import main
from benchmarks.ladders.cases import FULL, Table, load
from benchmarks.ladders.report import cost_of_regret, report
from benchmarks.ladders.rivals import random, shapes
from benchmarks.ladders.runs import Rung, chosen, cost, equal_shares, parsed, regret

ROOT = Path(__file__).parents[2]
TABLE = Table(
    "by hand",
    {
        "a": np.array([0.9, 0.8, 0.7, 0.1]),
        "b": np.array([0.1, 0.2, 0.9, 0.3]),
        FULL: np.array([0.4, 0.7, 0.6, 0.5]),
    },
    {"a": 0.1, "b": 0.25, FULL: 1.0},
    truth=np.array([0.5, 0.6, 0.7, 0.8]),
)
IN_ORDER = np.array([[0, 1, 2, 3]])
ALL_ORDERS = np.array(list(itertools.permutations(range(4))))


@pytest.mark.parametrize(
    ("ladder", "order", "wins", "costs"),
    [
        ("4 full", [0, 1, 2, 3], 1, 4.0),
        ("2 full", [3, 2, 1, 0], 2, 2.0),  # .5 and .6
        ("2 a > 1 full", [3, 2, 1, 0], 2, 1.2),  # .1 and .7
        # 0 and 1 go on; on b the ranks of 0 and 1 are 1 and 0, and on a 0 and 1: 1 + 0 against 0 + .5
        ("4 a > 2 b > 1 full", [0, 1, 2, 3], 1, 1.9),
        # 0, 1, 2 go on; on b their ranks are 2, 1, 0, and on a 0, 1, 2: 2, 1.5, 1
        ("4 a > 3 b > 1 full", [0, 1, 2, 3], 2, 2.15),
        # 2 and 3 are first on b; on a 2 is before 3
        ("4 b > 2 a > 1 full", [0, 1, 2, 3], 2, 2.2),
        ("4 a > 3 full", [0, 1, 2, 3], 1, 3.4),  # .4, .7, .6: full trainings are judged by themselves
    ],
)
def test_a_ladder_chooses_as_by_hand(ladder: str, order: list[int], wins: int, costs: float) -> None:
    rungs = parsed(ladder)
    assert chosen(rungs, TABLE, np.array([order])).tolist() == [wins]
    assert cost(rungs, TABLE) == pytest.approx(costs)
    assert regret(rungs, TABLE, np.array([order])) == pytest.approx(80 - 100 * TABLE.truth[wins])


def test_the_regret_is_the_mean_over_the_orders() -> None:
    """Of two on a the lower number wins: 0 in three of six pairs, 1 in two, 2 in one."""
    assert regret(parsed("2 a > 1 full"), TABLE, ALL_ORDERS) == pytest.approx(80 - (3 * 50 + 2 * 60 + 70) / 6)


def test_whoever_diverged_goes_up_last() -> None:
    diverged = replace(TABLE, scores={**TABLE.scores, "a": np.array([-1.0, 0.8, -1.0, 0.1])})
    assert chosen(parsed("4 a > 2 b > 1 full"), diverged, IN_ORDER).tolist() in ([1], [3])
    assert chosen(parsed("3 a > 2 full"), diverged, np.array([[0, 2, 3, 1]])).tolist() == [3]


@pytest.mark.parametrize(
    ("budget", "ways", "last", "counts"),
    [
        (1.9, ["a", "b"], 1, [4, 2, 1]),  # .45 for each: 4 of a, 1 of b; the .25 that is left is one more of b
        (1.2, ["a"], 1, [2, 1]),
        (1.1, ["a"], 1, None),  # one candidate is no search
        (9.0, ["a", "b"], 1, [4, 4, 1]),  # there are four configurations
        (1.3, ["a", "b"], 1, None),  # .15 do not pay a training on b
        (3.3, ["a"], 3, [3, 3]),
        (3.2, ["a"], 3, None),  # three are to be confirmed
    ],
)
def test_the_budget_is_shared_among_the_rungs(budget: float, ways: list[str], last: int, counts: list[int]) -> None:
    found = equal_shares(TABLE, budget, ways, last)
    assert counts == (found and [rung.trials for rung in found])
    if found:
        assert found[-1] == Rung(FULL, last) and cost(found, TABLE) <= budget + 1e-9


def test_the_cost_of_a_regret() -> None:
    """Full trainings that tell the truth find the best when all four were trained; those of the table never do."""
    assert cost_of_regret(random, TABLE, ALL_ORDERS) == {}
    honest = replace(TABLE, scores={**TABLE.scores, FULL: TABLE.truth})
    assert cost_of_regret(random, honest, ALL_ORDERS) == {"1": 4.0, "0.5": 4.0}


@pytest.mark.parametrize("text", ["", "4", "4 a", "1 a > 2 full", "x a > 1 full", "0 a > 0 full"])
def test_what_is_no_ladder_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parsed(text)


def test_the_tables_are_whole() -> None:
    """Every training of every way is there; a search spends no more than it may."""
    for table in load():
        assert {scores.shape for scores in table.scores.values()} == {table.truth.shape}
        assert table.cost[FULL] == 1 and all(0 < each <= 1 for each in table.cost.values())
        for shape in shapes(table).values():
            ladder = shape(table, 3.0)
            assert ladder is None or cost(ladder, table) <= 3.0 + 1e-9


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ladders.json"
    assert main(["--table", "vgg4-bn", "--draws", "20", "--resamples", "3", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found.keys() >= {"machine", "versions", "seeds", "settings"}
    searches = found["tables"]["vgg4-bn"]["searches"]
    assert "today: quarter width, 3 confirmed" in searches and not searches["today: quarter width, 3 confirmed"][
        "at"
    ].get("2")
    assert (
        main(["--table", "vgg4-bn", "--draws", "20", "--ladder", "8 quarter width > 1 full", "--json", str(file)]) == 0
    )
    assert json.loads(file.read_text())["ladder"] == [[8, "quarter width"], [1, "full"]]
    assert "vgg4-bn: costs 2." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--table", "vgg4-bn", "--ladder", "8 eighth width > 1 full"])
    assert "has 26 configurations, trained as" in capsys.readouterr().err


def test_the_page_says_what_was_found() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "ladders.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "results" / "ladders.md").read_text(encoding="utf-8")
    assert report(found["tables"], markdown=True) in page
