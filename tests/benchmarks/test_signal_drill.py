"""A short drill; the one that waits for whole runs, and long ones, are run by hand, see the module."""

from __future__ import annotations

import pytest

from benchmarks.signal_drill.runs import Mode, run


@pytest.mark.parametrize(("mode", "count"), [("run", 2), ("kill", 1)])
def test_no_signal_is_lost(mode: Mode, count: int) -> None:
    assert [failure for sent in run(count, within=4.0, mode=mode, seed=3) for failure in sent.failures] == []
