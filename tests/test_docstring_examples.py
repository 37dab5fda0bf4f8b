"""The examples in docstrings that are no doctests: they run with a network, a train function and a storage of ours."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nevergrad
import optuna
import plotly.graph_objects
import pytest
import skopt
import torch
import torch_pruning
from torch import nn

import prunetune
import prunetune.report
from prunetune.backends.study.trial import Report
from prunetune.interop.nevergrad import to_nevergrad
from prunetune.interop.skopt import to_skopt
from prunetune.interop.torch_pruning import ToTorchPruning
from prunetune.zoo import models

SPACE = {"lr": prunetune.Float(1e-3, 1.0, log=True)}
SHORTER = {
    "epochs=40": "epochs=2",
    "epochs=10": "epochs=2",
    'prunetune.Search(direction="maximize")': 'prunetune.Search(direction="maximize", n_trials=3)',
    'rivals=("fewer-epochs",))': 'rivals=("fewer-epochs",), configurations=4)',
    "n_trials=50": "n_trials=2",
    "to_skopt(objective.space))": "to_skopt(objective.space), n_calls=11)",
}
"""How long, in an example, and how long here."""


def literal_blocks(subject: object) -> list[str]:
    """What is indented after ``::``."""
    text = inspect.getdoc(subject) or ""
    found = re.findall(r"::\n\n((?:[ ]{4,}.*\n?|\n)+)", text + "\n")
    return [textwrap.dedent(block) for block in found]


class MyNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), nn.Conv2d(16, 32, 4), nn.Flatten(), nn.Linear(32, 4))


def train(model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
    optimizer = torch.optim.SGD(report.param_groups(model, lr=params.get("lr", 0.01)))
    images, labels = torch.ones(4, 3, 32, 32), torch.arange(4)
    for epoch in range(1, report.epochs + 1):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(-loss.item(), epoch)
    return -loss.item()


def common(folder: Path) -> dict[str, Any]:
    return {"prunetune": prunetune, "torch": torch, "MyNet": MyNet, "train": train, "space": SPACE,
            "images": torch.ones(4, 3, 32, 32)}  # fmt: skip


def of_tune(folder: Path) -> dict[str, Any]:
    """``accuracy`` is what the reader's dots have come to."""
    return {"accuracy": 0.5}


def of_work(folder: Path) -> dict[str, Any]:
    """A search that is over, in the storage whose URL stands in the place of the database."""
    search = prunetune.Search(direction="maximize", n_trials=2, confirm=1, storage=f"sqlite:///{folder}/shared.db")
    images = torch.ones(4, 3, 32, 32)
    prunetune.tune(MyNet, train, SPACE, example_inputs=images, epochs=2, run_dir=folder / "run", search=search)
    return {}


def of_objective(folder: Path) -> dict[str, Any]:
    objective = prunetune.proxy_objective(
        MyNet, train, SPACE, example_inputs=torch.ones(4, 3, 32, 32), epochs=1, direction="maximize"
    )
    optimizer = nevergrad.optimizers.OnePlusOne(to_nevergrad(objective.space), budget=2)
    return {"objective": objective, "study": optuna.create_study(direction="maximize"), "optimizer": optimizer,
            "skopt": skopt, "to_skopt": to_skopt}  # fmt: skip


def of_groups(folder: Path) -> dict[str, Any]:
    class Plain:
        def param_groups(self, model: nn.Module, **options: float) -> list[dict[str, Any]]:
            return [{"params": list(model.parameters()), **options}]

    return {"report": Plain(), "model": MyNet(), "params": {"lr": 0.1}}


def of_torch_pruning(folder: Path) -> dict[str, Any]:
    model = models["resnet8"](10, 3)
    model.fc = model.classifier
    return {"ToTorchPruning": ToTorchPruning, "torch_pruning": torch_pruning, "model": model, "x": torch.ones(2, 3, 32, 32)}  # fmt: skip  # noqa: E501


def of_report(folder: Path) -> dict[str, Any]:
    search = prunetune.Search(direction="maximize", n_trials=2, confirm=1)
    images = torch.ones(4, 3, 32, 32)
    prunetune.tune(MyNet, train, SPACE, example_inputs=images, epochs=2, run_dir=folder / "runs/demo", search=search)
    return {}


EXAMPLES: list[tuple[object, Callable[[Path], dict[str, Any]]]] = [
    (prunetune.tune, of_tune),
    (prunetune.check, lambda folder: {}),
    (prunetune.compare, lambda folder: {}),
    (prunetune.work, of_work),
    (prunetune.proxy_of, lambda folder: {}),
    (prunetune.proxy_objective, of_objective),
    (Report.param_groups, of_groups),
    (ToTorchPruning, of_torch_pruning),
    (prunetune.report, of_report),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("subject", "own"), EXAMPLES, ids=lambda each: getattr(each, "__name__", ""))
def test_the_example_runs(
    subject: object, own: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plotly.graph_objects.Figure, "show", lambda figure: figure.to_json())
    names = {**common(tmp_path), **own(tmp_path)}
    blocks = literal_blocks(subject)
    assert blocks
    for block in blocks:
        for long, short in {**SHORTER, "postgresql://me@db.example.org/searches": f"sqlite:///{tmp_path}/shared.db"}.items():  # fmt: skip  # noqa: E501
            block = block.replace(long, short)
        exec(compile(block, str(subject), "exec"), names)
