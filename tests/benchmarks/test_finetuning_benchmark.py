"""The benchmark of fine-tuning: one cheap training of each kind, and what is made of rows."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.finetuning.cases import TASKS, TRUTH, WAYS
from benchmarks.finetuning.report import report, summary
from benchmarks.finetuning.runs import measured

TEXT = TASKS[1].name


def test_a_training_on_text() -> None:
    way = "1/4, recovered, 1/3 of the epochs"
    row = measured("smoke", TEXT, way, 0, 0)
    assert (row["task"], row["way"], row["seed"], row["configuration"]) == (TEXT, way, 0, 0)
    assert 1.0 < row["loss"] < 6.0  # nats a character; guessing among 97 has 4.6
    assert row["cpu"] > 0 < row["before"]


def rows(way: str, losses: list[float | None], cpu: float) -> list[dict[str, Any]]:
    known = {"task": TEXT, "way": way, "seed": 0, "cpu": cpu, "before": 1.0}
    return [{**known, "configuration": number, "loss": loss} for number, loss in enumerate(losses)]


def test_ranks_and_what_is_lost_at_equal_cost() -> None:
    """By hand: one full training pays for four at a quarter of its cost, which are all, and for one at its own."""
    sliced, own = "1/4, sliced", "the full network, another seed"
    found = summary(
        rows(TRUTH.name, [1.0, 2.0, 3.0, 4.0], 8.0)
        + rows(own, [1.0, 2.0, 3.0, None], 8.0)
        + rows(sliced, [4.0, 1.0, 3.0, 2.0], 2.0),
        4,
    )["tasks"][TEXT]
    assert found[own]["spearman"] == pytest.approx(1.0)
    assert found[own]["lost"] == pytest.approx(1.5, abs=0.1)  # one at random loses 0, 1, 2 or 3
    assert found[sliced]["cost"] == 0.25
    assert found[sliced]["spearman"] == pytest.approx(-0.4)  # d = 3, 1, 0, 2: 1 - 6 * 14 / 60
    assert found[sliced]["lost"] == 1.0
    assert "-0.4" in report({"tasks": {TEXT: found}}, markdown=True)
    assert len({way.name for way in WAYS}) == len(WAYS)
