"""The benchmarks that time training steps: of scorers' proxies, of `speedup=`, of what is predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.common.lines import results
from benchmarks.common.processes import Report
from benchmarks.scorers import __main__ as scorers
from benchmarks.scorers import runs as scorers_runs
from benchmarks.speedup import __main__ as speedup
from benchmarks.speedup import rivals as speedup_rivals
from benchmarks.speedup import runs as speedup_runs
from benchmarks.step_time import __main__ as step_time
from benchmarks.step_time.cases import CUTS, Case
from benchmarks.step_time.report import errors
from benchmarks.step_time.runs import OURS
from prunetune import PruningPlan, prune


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Two of the benchmarks set the process to one thread."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def test_scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scorers_runs, "NETWORKS", {"small": small})
    file = tmp_path / "rows.jsonl"
    asked = ["--scorer", "random", "slimming", "--batch", "8", "--train-steps", "2", "--seconds", "0.1"]
    assert scorers.main([*asked, "--json", str(file), "--markdown"]) == 0
    rows = results(file)
    assert [(row["network"], row["scorer"]) for row in rows] == [("small", "random"), ("small", "slimming")]
    for row in rows:
        assert row["seconds"] > 0 and row["times faster"] > 0
        assert 0 < row["parameters, %"] < 50 and 0 < row["FLOPs, %"] < 50  # p = 85, of two layers of 16 channels
    printed = [line.split("|")[2].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert printed == ["random", "slimming"]


def test_what_a_scorer_cannot_do_is_said_in_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scorers_runs, "NETWORKS", {"no norms": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))}
    )
    file = tmp_path / "rows.jsonl"
    asked = ["--scorer", "slimming", "--batch", "8", "--train-steps", "1", "--seconds", "0.1"]
    assert scorers.main([*asked, "--json", str(file)]) == 0
    (row,) = results(file)
    assert row["failure"] and "seconds" not in row


def test_step_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(step_time, "keep_freed_memory", lambda: True)  # of the tests' own process
    file = tmp_path / "rows.jsonl"
    cases = {name: Case(small, 8, size) for name, size in (("a", 8), ("b", 16))}
    assert step_time.main(["--seconds", "0.1", "--json", str(file)], cases) == 0
    rows = results(file)
    assert [(row["model"], row["cut"]) for row in rows] == [(m, cut) for m in "ab" for cut in CUTS]
    for row in rows:
        assert row["measured"] > 0 and all(seconds > 0 for seconds in row["predicted"].values())
        assert len(row["predicted"]) == 3
        assert (row["again"] is not None) == (row["cut"] == "1")
    full = rows[0]
    assert full["predicted"][OURS] == pytest.approx(full["measured"])
    printed = capsys.readouterr().out
    assert all(method in printed for method in full["predicted"])


def test_the_errors_are_of_seconds_and_of_ratios() -> None:
    rows = [
        {"model": "a", "cut": "1", "measured": 2.0, "predicted": {"x": 1.0}},
        {"model": "a", "cut": "1/2", "measured": 1.0, "predicted": {"x": 0.4}},
    ]
    seconds, speedups = errors(rows, "x")
    assert seconds == pytest.approx([0.5, 0.6])
    assert speedups == pytest.approx([0.25])  # 2.5 instead of 2 times as fast


def cut(name: str, speedup: float, batch: int, threads: int, report: Report) -> None:
    """In place of a search for widths by measuring, which takes a minute and has tests of its own."""
    if name == "refused":
        report.add(refused="cannot be reached", seconds=0.1)
        return
    plan = prune(small(), torch.randn(2, 3, 32, 32), scorer="random", ratio=0.25).plan
    report.add(plan=plan.to_json(), speedup=1.5, bypassed=0, measurements=2, seconds=0.1)


def test_speedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for module in (speedup, speedup_runs):
        monkeypatch.setattr(module, "NETWORKS", {"small": (small, False), "refused": (small, False)})
    monkeypatch.setattr(speedup_runs, "cut", cut)
    file = tmp_path / "found.json"
    asked = ["--speedup", "1.5", "--batch", "64", "--seconds", "0.2", "--threads", "1"]
    status = speedup.main([*asked, "--json", str(file)])
    found = json.loads(file.read_text())
    reached, refused = found["rows"]
    assert reached["failure"] == "" and reached["reported"] == 1.5 and reached["measured here"] > 0
    assert reached["allocator alone"] > 0
    assert reached["off by, %"] == pytest.approx(100 * (reached["measured here"] / 1.5 - 1))
    assert status == int(abs(reached["off by, %"]) > 10)
    assert refused["failure"] == "cannot be reached" and refused["measured here"] is None
    assert found["machine"]["threads"] == 1 and found["versions"]["torch"]
    assert "cannot be reached" in capsys.readouterr().out


def test_an_earlier_version_reports_what_this_one_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speedup_rivals, "cut", cut)
    speedup_rivals.main("small", "5", "8", "1")
    found = json.loads(capsys.readouterr().out)
    assert found["speedup"] == 1.5 and PruningPlan.from_json(found["plan"]).tensors
