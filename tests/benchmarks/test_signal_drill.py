"""A short drill of every kind; long ones are run by hand, see the module."""

from __future__ import annotations

import pytest

from benchmarks import signal_drill
from benchmarks.signal_drill import Mode, run


@pytest.mark.parametrize(("mode", "count"), [("run", 2), ("kill", 1), ("worker", 1)])
def test_no_signal_is_lost(mode: Mode, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_drill, "FEW_TRIALS", 9)
    assert [failure for sent in run(count, within=4.0, mode=mode, seed=3) for failure in sent.failures] == []
