"""Public tables: read without classes, and searched on a table whose best configuration is known."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tables import cases
from benchmarks.tables.cases import SIZES, Table, read, tables
from benchmarks.tables.report import report, result
from benchmarks.tables.runs import FULL, PROXY, Way, cost, exponents, ranks, searched, shifted
from prunetune.errors import InputError


def known(exponent: float = 1.0) -> Table:
    """The best rate of the full network is at place 3, that of narrower ones as far up as the exponent says.

    Accuracy falls by one for each place of the rate, by .1 for each of the batch size, .01 for each of the penalty.
    """
    a, b, _, rate, width = np.meshgrid(*(np.arange(n) for n in SIZES), indexing="ij")
    best = 3 + np.array([np.flatnonzero(shifted(w, -exponent) == 9)[0] for w in range(SIZES[4])]) * -1 + 9
    loss = np.abs(rate - best[width]) + 0.1 * b + 0.01 * a
    accuracy = np.repeat((90.0 - loss)[..., None], 5, axis=-1)
    seconds = np.repeat((np.array(cases.WIDTHS, dtype=float)[width])[..., None], 5, axis=-1)
    return Table("known", accuracy, seconds)


def test_factors_of_one_rate() -> None:
    assert exponents() == {"identity": 0.0, "mup": -1.0, "norm-aware": -1.0, "one rate, 0.7": -0.7}


def test_rates_are_shifted_by_whole_places_and_the_ends_stay() -> None:
    """A sixteenth: 16 is 2.17 steps of 10 ** (5 / 9), and 16 ** .7 is 1.52."""
    assert list(shifted(PROXY, -1.0)) == [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert list(shifted(PROXY, -0.7)) == [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert list(shifted(PROXY, 0.0)) == list(range(10)) == list(shifted(FULL, -1.0))


def test_a_rule_that_is_right_ranks_better_than_none() -> None:
    found = {(row["width"], row["rule"]): row["spearman"] for row in ranks(known())}
    assert found[64, "mup"] > 0.9 > found[64, "identity"]
    assert found[1024, "identity"] == found[1024, "mup"] == pytest.approx(1.0)


def test_a_search_finds_what_is_best_and_says_what_it_costs() -> None:
    table = known()
    assert cost(table, PROXY) == 64 / 1024
    every = Way("all", PROXY, -1.0, "random", trials=1000)
    assert searched(table, every, 2) == {
        "table": "known",
        "way": "all",
        "regret": pytest.approx(0.0),
        "cost": 1000 * 64 / 1024 + 3,
        "draws": 2,
    }
    # As they are, the rate that is best at a sixteenth is two places above the full network's.
    wrong = Way("as they are", PROXY, 0.0, "random", trials=1000, confirmed=0)
    assert searched(table, wrong, 1)["regret"] == pytest.approx(2.0)


@pytest.mark.parametrize("optimizer", ["tpe", "optuna:tpe-multivariate", "optuna:cmaes"])
def test_optimizers_search_the_table(optimizer: str) -> None:
    found = searched(known(), Way("full", FULL, 0.0, optimizer, trials=30, confirmed=0), 1)
    assert 0 <= found["regret"] < 2
    assert found["cost"] == 30


def test_the_report_has_every_rule_and_every_way() -> None:
    table = known()
    rows = [searched(table, Way(name, PROXY, 0.0, "random", trials=5), 1) for name in ("one", "two")]
    text = report(result(ranks(table), rows), markdown=False)
    assert all(name in text for name in (*exponents(), "one", "two"))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1]), pickle.dumps({"0": {}})])
def test_a_file_that_is_no_table_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="the table x cannot be read"):
        read(content, "x", (1,))


def test_a_file_that_would_run_something_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="it wants builtins.print, and nothing but plain values is read"):
        read(pickle.dumps({"0": Evil()}), "x", (1,))
    assert "run" not in capsys.readouterr().out


def test_a_table_is_read() -> None:
    cells = {"0": {"val_acc": [0.5, 0.75], "train_time": [1.0, 3.0]}, "1": {"val_acc": [0, 1], "train_time": [2, 2]}}
    file = io.BytesIO()
    pickle.dump(cells, file)
    found = read(file.getvalue(), "x", (2,))
    assert found.accuracy.tolist() == [[50.0, 75.0], [0.0, 100.0]]
    assert found.seconds.tolist() == [[1.0, 3.0], [2.0, 2.0]]


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / cases.WHEEL).write_bytes(b"other")
    with pytest.raises(InputError, match=r"is another file than the one that was measured: its SHA-256 is d9298a10"):
        tables(tmp_path)
