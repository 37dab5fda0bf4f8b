"""Lightning's and transformers' trainers, by the rates that their optimizers really step with on a proxy."""

from __future__ import annotations

import tempfile
from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer, TrainingArguments

import prunetune
from tiny_transfer import INPUTS, RATES, Mlp

DATA = TensorDataset(torch.randn(8, 6), torch.zeros(8, dtype=torch.long))


class Watched(Mlp):
    """Keeps by how much the last step moved the readout and the first layer, for gradients of one."""

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        out = super().forward(pixel_values)
        return {"loss": sum(p.sum() for p in self.parameters()), "logits": out}


def proxy_of(kind: Any) -> nn.Module:
    return prunetune.proxy_of(Watched, INPUTS, prunetune.Pruning(scorer="uniform", ratio=0.25, optimizers=kind))()


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> dict[str, float]:
    return {n.partition(".")[0]: float((before[n] - p.detach()).mean()) for n, p in model.named_parameters()}


class Module(lightning.LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any) -> Any:
        return self.network(batch[0])["loss"]

    def configure_optimizers(self) -> Any:
        sgd = torch.optim.SGD(self.parameters(), lr=0.1)
        return [sgd], [torch.optim.lr_scheduler.StepLR(sgd, 1)]


@pytest.mark.filterwarnings("ignore")
def test_lightnings_optimizers_are_corrected() -> None:
    proxy = proxy_of("sgd")
    before = {name: p.detach().clone() for name, p in proxy.named_parameters()}
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, max_steps=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(Module(proxy), DataLoader(DATA, batch_size=8))
    assert moved(proxy, before) == pytest.approx({name: 0.1 * by for name, by in RATES["sgd"].items()}, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_the_optimizer_of_transformers_trainer_is_corrected() -> None:
    """Its AdamW moves a weight by the rate in the first step; there is no warm-up and no decay of weights."""
    proxy = proxy_of("adam")
    before = {name: p.detach().clone() for name, p in proxy.named_parameters()}
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder, learning_rate=1e-3, max_steps=1, lr_scheduler_type="constant", report_to="none", use_cpu=True,
            save_strategy="no", disable_tqdm=True, per_device_train_batch_size=8, max_grad_norm=0.0,
        )  # fmt: skip
        rows = [{"pixel_values": x, "labels": y} for x, y in DATA]
        Trainer(proxy, options, train_dataset=rows).train()
    assert moved(proxy, before) == pytest.approx({name: 1e-3 * by for name, by in RATES["adam"].items()}, rel=1e-2)
