"""``prunetune.tuning.ascent``: what the rungs of a run cost beside their trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import nn

from prunetune import Float, Ladder, Report, Rung, Search, SearchSpace, tune
from prunetune.events import silent
from prunetune.tuning import ascent, timetable

LADDER = Ladder(Rung(width=1 / 2, epochs=1 / 3, trials=4, keep=2), Rung(width=1 / 2, keep=1), Rung())


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    for epoch in range(report.epochs):
        report(params["lr"], epoch + 1)
    return float(params["lr"])


def test_without_a_time_budget_no_rung_reads_its_trials_to_know_how_many_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them is as dear as a short training. A limit in time needs them, and only that."""
    read: list[str] = []

    def reading(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(study: optuna.Study) -> Any:
            read.append(study.study_name)
            return function(study)

        return counted

    def limit(self: ascent.Ascent, place: int, study: optuna.Study) -> int:
        with monkeypatch.context() as within:
            for module in (ascent, timetable):
                within.setattr(module, "finished_trials", reading(module.finished_trials))
            return whole(self, place, study)

    whole = ascent.Ascent.limit
    monkeypatch.setattr(ascent.Ascent, "limit", limit)
    for budget, ladder in ((None, LADDER), ("1h", None)):
        read.clear()
        tune(
            lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)),
            train,
            SearchSpace({"lr": Float(1e-3, 1.0, log=True)}),
            example_inputs=torch.zeros(4, 6),
            epochs=3,
            ladder=ladder,
            budget=budget,
            search=Search(direction="maximize", n_trials=2 if budget else None),
            run_dir=tmp_path / str(budget),
            observer=silent,
        )
        assert bool(read) == (budget is not None)
