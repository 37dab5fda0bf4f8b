"""``python -m benchmarks.exactness`` on a network, and on one that normalises responses over its channels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.exactness import runs as exactness
from benchmarks.exactness.__main__ import main


def test_its_verdicts_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exactness.json"
    assert main(["--family", "timm", "--model", "convnextv2_atto"]) == 0
    assert main(["--family", "classification", "--model", "squeezenet1_1", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    (row,) = found["models"]
    assert (row["family"], row["model"], row["verdict"]) == ("classification", "squeezenet1_1", "exact")
    assert row["error"] < 1e-9
    assert row["oracle"] == "presence"
    assert found["seeds"] == [0]
    printed = capsys.readouterr().out.split()
    assert printed[printed.index("convnextv2_atto") + 1] == "exact"


def test_one_that_is_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "EXACT", 0.0)
    assert main(["--family", "classification", "--model", "squeezenet1_1"]) == 1
