"""The benchmark of ranking: its statistics by hand, that it goes on, and that tables come from its rows alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.transfer.__main__ import main
from benchmarks.transfer.cases import SCALES, arms, configurations
from benchmarks.transfer.report import compared
from benchmarks.transfer.runs import jobs, key, part, read


def test_regret_and_rank_correlation_by_hand() -> None:
    truth = np.array([0.5, 0.9, 0.8, 0.7, 0.6])
    scores = np.array([5.0, 1.0, 4.0, 3.0, 2.0])  # ranks 5 1 4 3 2 against 1 5 4 3 2: sum of squares 32
    chooser = np.array([0.1, 1.0, 0.2, 0.3, 0.1])  # of the first three (0, 2, 3) it likes 3 best
    found = compared(scores, truth, chooser)
    assert found["spearman"] == pytest.approx(1 - 6 * 32 / (5 * 24))
    assert found["regret_points"] == pytest.approx(40)
    assert found["regret_points_confirmed"] == pytest.approx(20)
    low, high = found["spearman_interval"]
    assert -1 <= low <= found["spearman"] <= high <= 1


def test_configurations_are_within_the_space_and_the_same_each_time() -> None:
    found = configurations(26)
    assert found == configurations(26)
    assert all(10**-3.5 <= c["learning_rate"] <= 1 and 1e-5 <= c["weight_decay"] <= 1e-2 for c in found)
    assert {c["batch_size"] for c in found} == {16, 32, 64, 128}


def test_fewer_images_are_as_many_of_each_class() -> None:
    base = SCALES["smoke"].bases[0]
    whole, half = part(base, 1.0), part(base, 0.5)
    counts = [np.bincount(each.train_labels.numpy(), minlength=10) for each in (whole, half)]
    assert np.abs(counts[1] - counts[0] / 2).max() <= 0.5
    assert half.val_images.shape == whole.val_images.shape


def test_rivals_cost_what_a_quarter_of_the_width_costs() -> None:
    for scale in (SCALES["smoke"], SCALES["cpu"], SCALES["full"]):
        for base in scale.bases:
            named = {arm.name: arm for arm in arms(base, scale)}
            for name in ("fewer epochs", "less data"):
                arm = named[name]
                share = (arm.epochs or base.epochs) / base.epochs * arm.data
                assert share == pytest.approx(base.share, rel=0.25)
            stopped = named["stopped early"]
            assert stopped.stop_after is not None
            assert stopped.stop_after * stopped.data / base.epochs == pytest.approx(base.share, rel=0.25)


def test_a_small_run_goes_on_and_its_tables_come_from_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = SCALES["smoke"]
    base = replace(scale.bases[0], images=96, epochs=1)
    monkeypatch.setitem(SCALES, "smoke", replace(scale, bases=(base,), configurations=2, scorers=()))
    rows, summary = tmp_path / "rows.csv", tmp_path / "transfer.json"
    smoke = ["--scale", "smoke", "--json", str(summary)]
    assert main([*smoke, "--rows", str(rows), "--seconds", "0"]) == 0
    begun = len(read(rows))
    others = [tmp_path / "2.csv", tmp_path / "3.csv"]
    for number, other in enumerate(others, 2):
        assert main([*smoke, "--shard", f"{number}/3", "--rows", str(other)]) == 0
    assert not {*map(key, read(others[0]))} & {*map(key, read(others[1]))}
    text = rows.read_text() + "".join(other.read_text().partition("\n")[2] for other in others)
    rows.write_text(text)
    assert main([*smoke, "--rows", str(rows)]) == 0
    ended = read(rows)
    assert begun < len(ended) == len(list(jobs(SCALES["smoke"])))
    table = capsys.readouterr().out.splitlines()[-1]
    assert "a random pick" in table
    before = summary.read_text()
    lines = rows.read_text().splitlines(keepends=True)
    others[0].write_text("".join(lines[:9]))
    others[1].write_text("".join([lines[0], *lines[5:]]))  # four of them twice
    assert main([*smoke, "--from", *map(str, others)]) == 0
    found = json.loads(summary.read_text())
    assert found["proxies"] == json.loads(before)["proxies"]
    assert set(found["proxies"]["resnet8: uniform"]) == {"cost", "spearman", "regret_points", "regret_points_confirmed"}
    assert 0 < found["proxies"]["resnet8: uniform"]["cost"] < 1.5


def test_a_scale_of_rules_has_narrow_proxies_by_each_of_them() -> None:
    scale = SCALES["rules"]
    base, *proxies = arms(scale.bases[0], scale)
    assert base.kind == "base"
    asked = {(arm.prune["ratio"], arm.epochs, arm.transfer) for arm in proxies if arm.prune is not None}
    rules = ("mup", "norm-aware", "identity")
    assert asked == {(share, epochs, rule) for share in (1 / 4, 1 / 8) for epochs in (None, 1) for rule in rules}
    assert len({arm.name for arm in proxies}) == len(proxies) == 12
