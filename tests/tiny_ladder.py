"""Runs that climb a ladder on the network of ``tiny_tune``, with step times by width that were thought up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna import TrialPruned
from torch import nn

import prunetune.engine
import prunetune.report
from prunetune.backends.study.trial import Report
from prunetune.events import silent
from prunetune.ladder.rung import Ladder, Rung
from prunetune.tuning.tuner import Search, TuneResult, tune
from tiny_tune import INPUTS, SPACE, net, train, width, write_no_report

STEPS = {"1.0": 1.0, "0.5": 0.4, "0.25": 0.16, "0.125": 0.08, "None": 0.25, "base": 1.0, "proxy": 0.4}
"""Seconds of a step by the share of the width; and the two networks of a search of two rungs."""
MAXIMIZE = Search(direction="maximize", optimizer="random", trial_pruner="none")
SMALL = Ladder(Rung(1 / 8, 1 / 3, trials=4, keep=2), Rung(1 / 4, keep=1), Rung())


def make_quick(monkeypatch: pytest.MonkeyPatch, steps: Mapping[str, float] = STEPS) -> None:
    """Step times that were thought up, and no drawing of reports."""
    monkeypatch.setattr(
        prunetune.engine, "step_time", lambda models, inputs, **_: {name: steps[name] for name in models}
    )
    monkeypatch.setattr(prunetune.report, "write_report", write_no_report)


def climb(run_dir: Path, train: Callable[..., Any] = train, **options: Any) -> TuneResult:
    """A run of three epochs that climbs ``SMALL``, unless the options say otherwise."""
    model_fn, space = options.pop("model_fn", net), options.pop("space", SPACE)
    defaults: dict[str, Any] = {"epochs": 3, "search": MAXIMIZE, "observer": silent, "energy": False}
    defaults["resume"] = (
        "anyway"  # the train functions of these tests are told when to stop, so each start's is another
    )
    if "budget" not in options:
        defaults["ladder"] = SMALL
    return tune(model_fn, train, space, example_inputs=INPUTS, run_dir=run_dir, **{**defaults, **options})


class Trainings:
    """A train function that keeps what it was called with: (width, epochs, learning rate), the seeds apart.

    The score is the learning rate plus the width; or what ``score`` says for a width and a learning rate. It may raise
    ``TrialPruned(score)``, and whatever else.
    """

    def __init__(self, score: Callable[[int, float], float] | None = None, stop_before: int | None = None) -> None:
        self.score = score
        self.stop_before = stop_before
        self.made: list[tuple[int, int, float]] = []
        self.seeds: list[int] = []
        self.data: list[float] = []

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if self.stop_before is not None and len(self.made) + 1 == self.stop_before:
            raise KeyboardInterrupt
        rate, _ = params["lr"], params["steps"]  # which it might have taken
        self.made.append((width(model), report.epochs, rate))
        self.seeds.append(report.seed)
        self.data.append(report.data)
        try:
            score = rate + width(model) if self.score is None else self.score(width(model), rate)
        except TrialPruned as stopped:
            report(stopped.args[0], 1)
            raise
        for epoch in range(1, report.epochs + 1):
            report(score - (report.epochs - epoch), epoch)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(rate)
        return score

    def rates(self, wide: int, epochs: int | None = None) -> list[float]:
        """The learning rates of all trainings of a width, in order."""
        return [rate for w, e, rate in self.made if w == wide and epochs in (None, e)]


def points(*rates: float) -> dict[str, Any]:
    """Options of a search of these learning rates, in this order."""
    return {"first": [{"lr": rate, "steps": 1} for rate in rates]}
