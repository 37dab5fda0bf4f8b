"""``python -m benchmarks.gpt``: its text, its proxies, its statistics by hand, and that it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.common.sobol import sobol
from benchmarks.gpt import __main__ as gpt
from benchmarks.gpt.cases import CHARACTERS, SCALES, SPACE, TRUTH, WAYS, text
from benchmarks.gpt.report import OWN, summary
from benchmarks.gpt.runs import Row, plan_of
from prunetune.engine import apply

SMOKE = SCALES["smoke"]


def test_the_text_is_of_three_parts() -> None:
    found = text()
    assert len(found.train) > 500_000
    assert len(found.train) / len(found.val) == pytest.approx(8, rel=0.3)
    assert len(found.val) / len(found.test) == pytest.approx(1, rel=0.3)
    assert 0 <= int(found.train.min()) < int(found.train.max()) < CHARACTERS


def test_configurations_are_in_the_space() -> None:
    found = sobol(SPACE, 27)
    assert not any(SPACE.complaint(each) for each in found)
    assert len({each["learning_rate"] for each in found}) == 27


def test_proxies_have_fewer_heads_and_fewer_blocks() -> None:
    proxy = apply(plan_of(SMOKE, 1 / 8, 1 / 4), SMOKE.build())
    assert [name for name, _ in proxy.named_parameters() if name.endswith("query.weight")] == ["blocks.0.query.weight"]
    assert proxy.get_parameter("blocks.0.query.weight").shape == (16, 16)
    assert plan_of(SMOKE, 1 / 8, 1 / 4).depth == plan_of(SMOKE, 1.0, 1 / 4).depth == 0.25


def test_ranks_and_random_search_by_hand() -> None:
    def rows(way: str, val: list[float | None], test: list[float | None], cpu: float) -> list[Row]:
        return [
            {"way": way, "configuration": k, "val": v, "test": t, "cpu": cpu}
            for k, (v, t) in enumerate(zip(val, test, strict=True))
        ]

    short = next(way.name for way in WAYS if way.short)
    found = summary(
        [
            *rows(TRUTH.name, [1, 2, 3], [1.0, 2.0, None], 10.0),
            *rows(OWN, [1, 2, 3], [1.5, 1.0, 3.0], 10.0),
            *rows(short, [2, 1, 3], [9, 9, 9], 1.0),
            {"way": "ladder", "configuration": 0, "test": 1.0, "cpu": 14.0},
            {"way": "ladder", "configuration": 1, "test": 1.2, "cpu": 16.0},
        ],
        3,
    )
    assert set(found["ways"]) == {OWN, short}
    assert found["ways"][short]["cost"] == pytest.approx(0.1)
    assert found["ways"][short]["spearman"] == pytest.approx(0.5)  # 1 - 6 * (1 + 1) / (3 * 8)
    assert found["ways"][short]["regret"] == pytest.approx(1.0)  # chooses the second, which has 2 and not 1
    ladder = found["ladder"]
    assert ladder["cost"] == pytest.approx(1.5)
    assert ladder["nats"] == pytest.approx(1.1)
    assert ladder["random_trials"] == 2
    assert ladder["random_nats"] == pytest.approx((1.5 + 1.5 + 1.0) / 3)  # of the pairs 01, 02, 12


def test_a_small_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ["--scale", "smoke", "--searches", "1", "--rows", str(rows), "--json", str(tmp_path / "gpt.json")]
    assert gpt.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1/8 of the width, one epoch, identity" in printed
    written = rows.read_text()
    assert len(written.splitlines()) == len(WAYS) * SMOKE.configurations + 1
    monkeypatch.setattr(gpt, "measured", None)
    assert gpt.main(arguments) == 0
    assert capsys.readouterr().out == printed
    assert rows.read_text() == written
    assert json.loads((tmp_path / "gpt.json").read_text())["ladder"]["seeds"] == 1
