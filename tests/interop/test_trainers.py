"""Callbacks that tell a trial's report what trainers of other libraries measure, in trainings by those libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from optuna import TrialPruned
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer, TrainingArguments

import prunetune
from prunetune.errors import InputError
from prunetune.interop import lightning as of_lightning
from prunetune.interop import transformers as of_transformers
from tiny_tune import HALF, make_quick

INPUTS, TARGETS = torch.randn(32, 6), torch.randn(32, 2)
DATA = TensorDataset(INPUTS, TARGETS)
SPACE = {"lr": prunetune.Float(1e-3, 1e-1, log=True)}
SEARCH = prunetune.Search(direction="minimize", n_trials=3, confirm=1, optimizer="random", trial_pruner="asha")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of both libraries are their own business


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


class Told:
    """A report that writes down what it is told, and ends the training after so many epochs."""

    def __init__(self, last: int = 99) -> None:
        self.said: list[tuple[float, int]] = []
        self.last = last

    @property
    def epoch(self) -> int:
        return self.said[-1][1] if self.said else 0

    def __call__(self, score: float, epoch: int) -> None:
        self.said.append((score, epoch))
        if epoch == self.last:
            raise TrialPruned


class Regression(lightning.LightningModule):
    def __init__(self, network: nn.Module, lr: float) -> None:
        super().__init__()
        self.network, self.lr = network, lr

    def training_step(self, batch: Any) -> Any:
        return nn.functional.mse_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("loss", nn.functional.mse_loss(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def fit(network: nn.Module, lr: float, report: Any, epochs: int, **options: Any) -> Any:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    callbacks = [of_lightning.LightningReport(report, options.pop("metric", "loss"))]
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=callbacks, enable_model_summary=False, **quiet, **options)
    loader = DataLoader(DATA, batch_size=8)
    trainer.fit(Regression(network, lr), loader, loader)
    return trainer.callback_metrics["loss"].item()


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize(
    ("options", "epochs"),
    [({}, [1, 2, 3]), ({"val_check_interval": 2}, [1, 2, 3]), ({"check_val_every_n_epoch": 2}, [2])],
)
def test_lightning_is_told_once_an_epoch_that_was_validated(options: dict[str, Any], epochs: list[int]) -> None:
    told = Told()
    last = fit(net(), 0.01, told, 3, **options)
    assert [epoch for _, epoch in told.said] == epochs
    assert told.said[-1][0] == last


def test_lightning_ends_with_the_trial() -> None:
    told = Told(last=2)
    with pytest.raises(TrialPruned):
        fit(net(), 0.01, told, 5)
    assert [epoch for _, epoch in told.said] == [1, 2]


def test_lightning_without_such_a_metric() -> None:
    with pytest.raises(InputError, match="nothing was logged as 'acc'; logged were loss"):
        fit(net(), 0.01, Told(), 1, metric="acc")


def test_lightning_in_a_search(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
        score: float = fit(model, params["lr"], report, report.epochs)
        return score

    options = {"example_inputs": INPUTS, "epochs": 3, "pruning": HALF, "search": SEARCH}
    record = prunetune.tune(net, train, SPACE, run_dir=tmp_path, **options).record
    assert record["search"]["trials"]["failed"] == 0
    assert record["confirmation"][0]["epochs"] == 3


class Labelled(nn.Module):
    """What Trainer calls: a loss and the outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any, labels: Any) -> dict[str, Any]:
        out = self.network(x)
        return {"loss": nn.functional.mse_loss(out, labels), "logits": out}


def hugging(folder: Path, network: nn.Module, lr: float, report: Any, epochs: int, metric: str = "eval_loss") -> float:
    rows = [{"x": x, "labels": y} for x, y in zip(INPUTS, TARGETS, strict=True)]
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    options = TrainingArguments(
        str(folder), num_train_epochs=epochs, learning_rate=lr, eval_strategy="epoch", logging_strategy="no", **quiet
    )
    callbacks = [of_transformers.TransformersReport(report, metric)]
    trainer = Trainer(Labelled(network), options, train_dataset=rows, eval_dataset=rows, callbacks=callbacks)
    trainer.train()
    return float(trainer.evaluate()["eval_loss"])  # once more of the last epoch, which is not told again


def test_transformers_is_told_once_an_epoch(tmp_path: Path) -> None:
    told = Told()
    last = hugging(tmp_path, net(), 0.01, told, 3)
    assert [epoch for _, epoch in told.said] == [1, 2, 3]
    assert told.said[-1][0] == pytest.approx(last)


def test_transformers_ends_with_the_trial_and_names_metrics(tmp_path: Path) -> None:
    told = Told(last=1)
    with pytest.raises(TrialPruned):
        hugging(tmp_path, net(), 0.01, told, 3)
    assert len(told.said) == 1
    with pytest.raises(InputError, match="an evaluation has no metric 'accuracy'; it has eval_loss"):
        hugging(tmp_path, net(), 0.01, Told(), 1, metric="accuracy")


def test_transformers_in_a_search(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
        return hugging(tmp_path / "trainer", model, params["lr"], report, report.epochs)

    options = {"example_inputs": INPUTS, "epochs": 3, "pruning": HALF, "search": SEARCH}
    record = prunetune.tune(net, train, SPACE, run_dir=tmp_path / "run", **options).record
    assert record["search"]["trials"]["failed"] == 0
    assert record["confirmation"][0]["epochs"] == 3


@pytest.mark.parametrize(
    ("module", "now"), [(of_lightning, "LightningReport"), (of_transformers, "TransformersReport")]
)
def test_the_callbacks_are_found_under_their_old_name(module: Any, now: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"\.Report is {now} now"):
        assert module.Report is getattr(module, now)
    with pytest.raises(AttributeError, match="Rapport"):
        module.Rapport  # noqa: B018
