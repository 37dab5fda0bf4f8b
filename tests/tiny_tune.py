"""Runs of the whole job on a network so small that a trial takes milliseconds, and a training whose score is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune.engine
import prunetune.report
from prunetune.backends import Float, Int, SearchSpace
from prunetune.backends.study.trial import Report
from prunetune.tuning.tuner import Pruning, Search, TuneResult, tune

INPUTS = torch.zeros(2, 6)
SPACE = SearchSpace({"lr": Float(1e-3, 1.0, log=True), "steps": Int(1, 3)})
HALF = Pruning(scorer="magnitude", ratio=0.5)
SMALL = Search(direction="maximize", n_trials=4, confirm=2, optimizer="random", trial_pruner="none")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def width(model: nn.Module) -> int:
    """16 for the full network, 8 for its proxy at half width."""
    return int(next(model.parameters()).shape[0])


def touch(model: nn.Module) -> None:
    """What a training does to a model at least: something in it is different."""
    with torch.no_grad():
        next(model.parameters()).add_(1.0)


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """The score is the learning rate plus the width: known without training. Weights become the learning rate."""
    score, _ = 0.0, params["steps"]  # which it might have taken
    for epoch in range(1, report.epochs + 1):
        score = params["lr"] + width(model)
        report(score - (report.epochs - epoch), epoch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(params["lr"])
    return score


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No measuring of step times and no drawing of reports, which have tests of their own."""
    monkeypatch.setattr(prunetune.engine, "step_time", lambda models, inputs, **_: dict.fromkeys(models, 0.5))
    monkeypatch.setattr(prunetune.report, "write_report", write_no_report)


def write_no_report(run_dir: Path) -> Path:
    path = Path(run_dir) / "report.html"
    path.write_text("a report")
    return path


def tiny_tune(run_dir: Path, train: Callable[..., Any] = train, **options: Any) -> TuneResult:
    defaults: dict[str, Any] = {"epochs": 2, "pruning": HALF, "search": SMALL}
    return tune(net, train, SPACE, example_inputs=INPUTS, run_dir=run_dir, **{**defaults, **options})


def read_record(run_dir: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    return record


def never(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    raise AssertionError("nothing was to be trained")


def interrupt(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    raise KeyboardInterrupt
