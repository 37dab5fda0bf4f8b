"""A rung whose trainings have too few optimizer steps to tell anything is told of at its first training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune import Ladder, Rung
from prunetune.events import Event, Warned
from tiny_tune import INPUTS, SPACE, net


class Train:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
        sgd = torch.optim.SGD(report.param_groups(model, lr=params["lr"]))
        for epoch in range(1, report.epochs + 1):
            for _ in range(self.steps):
                sgd.zero_grad()
                (model(INPUTS + 1) - params["steps"]).square().mean().backward()
                sgd.step()
            report(params["lr"], epoch)
        return float(params["lr"])


@pytest.mark.parametrize(
    ("steps", "epochs", "told", "said"),
    [
        (
            7,
            1 / 3,
            None,
            "has 14 optimizer steps, which may be too few to rank hyperparameters; give steps_per_epoch=7",
        ),
        (14, 1 / 3, None, "has 28 optimizer steps, which may be too few"),
        (15, 1 / 3, None, ""),  # 30 are enough
        (7, 1 / 3, 7, ""),  # the planner knows
        (3, 1.0, None, ""),  # all epochs of the full training
    ],
)
def test_few_steps(tmp_path: Path, steps: int, epochs: float, told: int | None, said: str) -> None:
    events: list[Event] = []
    prunetune.tune(
        net, Train(steps), SPACE, example_inputs=INPUTS, epochs=6, run_dir=tmp_path, steps_per_epoch=told,
        ladder=Ladder(Rung(width=1 / 2, epochs=epochs, trials=3, keep=1), Rung()), observer=events.append,
        search=prunetune.Search(direction="maximize", optimizer="random", trial_pruner="none"),
    )  # fmt: skip
    found = [event.message for event in events if isinstance(event, Warned) and "optimizer steps" in event.message]
    assert len(found) == bool(said)
    assert all(said in message for message in found)
