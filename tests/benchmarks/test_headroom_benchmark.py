"""The benchmark of what a proxy saves, as small as it can be: what it reports, and that it adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.headroom.__main__ import main


def test_a_small_run_reports_what_its_numbers_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "headroom.json"
    assert main(["--scale", "smoke", "--model", "mobilenetv2", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    network = found["networks"]["mobilenetv2"]
    assert network["paper_saved"] == 0.32
    assert len(network["proxies"]) == 2
    for row in network["proxies"].values():
        assert row["step_time_saved"] == pytest.approx(1 - row["step_seconds"] / network["step_seconds"])
        assert row["trial_time_saved"] == pytest.approx(1 - row["trial_seconds"] / network["trial_seconds"])
        assert 0 < row["flops_left"] < 0.2
        assert 0 < row["augmentation_share"] < 1 and 0 < row["evaluation_share"] < 1
        assert row["trial_wall_seconds"] > 0
    assert found["settings"]["clock"] == "process"
    assert network["trial_time_saved"] == max(row["trial_time_saved"] for row in network["proxies"].values())
    assert {"machine", "versions", "seeds", "settings"} <= found.keys()
    assert "ours: an eighth of the width" in capsys.readouterr().out
