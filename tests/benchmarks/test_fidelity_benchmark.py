"""``python -m benchmarks.fidelity``: it runs, goes on where it was, and plays successive halving as by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fidelity.__main__ import main
from benchmarks.fidelity.cases import SCALES, rungs, ways
from benchmarks.fidelity.report import epochs_of, halving


@pytest.mark.parametrize("network", SCALES)
def test_it_measures_every_way_and_is_added_to(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = tmp_path / "fidelity.json", tmp_path / "fidelity.md"
    arguments = ["--network", network, "--scale", "smoke", "--json", str(file), "--markdown", str(table)]
    assert main(arguments) == 0
    first = json.loads(file.read_text())
    scale = SCALES[network]["smoke"]
    assert set(first["trainings"]) == {way.name for way in ways(network, scale)}
    assert {len(trained) for trained in first["trainings"].values()} == {scale.configurations}
    assert {row["way"]: row["cost"] for row in first["ways"]}["full"] == 1
    assert all(-1 <= row["spearman"] <= 1 for row in first["ways"])
    assert "| truncated |" in table.read_text()
    first["trainings"]["full"][0]["seconds"] = 1000.0  # it would not be, were it trained again
    file.write_text(json.dumps(first))
    assert main(arguments) == 0
    assert json.loads(file.read_text())["trainings"] == first["trainings"]
    with pytest.raises(SystemExit):
        main([*arguments, "--seed", "1"])
    assert "is of another network, scale or seed; name another file" in capsys.readouterr().err


def test_successive_halving_by_hand() -> None:
    """Nine configurations, three after the first epoch, one after the third: the best at 3 of the best three at 1."""
    at = {
        1: np.array([9, 8, 7, 6, 5, 4, 3, 2, 1.0]),
        3: np.array([1, 3, 2, 9, 9, 9, 9, 9, 9.0]),
        9: np.array([0, 1, 2, 3, 4, 5, 6, 7, 8.0]),
    }
    assert rungs(9) == [1, 3, 9]
    assert halving(at, np.arange(9)) == 1
    assert halving(at, np.array([0, 2, 8])) == 0
    assert epochs_of(9, 9, anew=False) == 9 * 1 + 3 * 2 + 1 * 6
    assert epochs_of(9, 9, anew=True) == 9 * 1 + 3 * 3 + 1 * 9
