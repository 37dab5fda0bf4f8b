"""The benchmark of the race: small runs add up, and a rule without margin costs more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.race.__main__ import main
from benchmarks.race.rivals import RULES, Halving
from benchmarks.race.runs import CONFIRMED, run


def test_curves_by_hand() -> None:
    """The second is ahead in the end, and behind by 0.3 at a quarter: more than no margin, less than what moves."""
    base = np.array([[0.2, 0.4, 0.6, 0.6], [0.0, 0.1, 0.5, 0.8]])
    assert run(Halving, base, base) == (pytest.approx(20.0), pytest.approx(3 / 8))
    assert run(RULES["race"], base, base) == (0.0, 0.0)


def test_a_small_run_has_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "race.json"
    assert main(["--scale", "smoke", "--json", str(path), "--markdown"]) == 0
    found = json.loads(path.read_text())
    assert {"machine", "versions", "seeds", "settings"} <= found.keys()
    assert len(found["rows"]) == 2 * len(CONFIRMED) * len(RULES)
    for row in found["rows"]:
        assert 0 <= row["epochs_saved"] < 1
        assert row["regret_points"] <= row["worst_regret_points"]
        assert (row["another_wins"] > 0) == (row["regret_points"] > 0)
    saved = {rule: sum(row["epochs_saved"] for row in found["rows"] if row["rule"] == rule) for rule in RULES}
    assert saved["no margin"] > saved["race, proxy unseen"] >= saved["race"]
    assert capsys.readouterr().out.split()[:5] == ["|", "base", "|", "confirmed", "|"]
