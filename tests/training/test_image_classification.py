"""The built-in training loop: what it reports, what it computes, and that it is reproducible."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from prunetune.data import ImageData, datasets
from prunetune.errors import InputError
from prunetune.training import Hyperparameters, ImageClassification
from prunetune.training.image_classification import accuracy
from prunetune.training.schedules import SCHEDULES, cosine, step
from prunetune.zoo import models


@dataclass
class Reported:
    """Stands in for the tuner's Report: keeps what it is told."""

    epochs: int = 2
    seed: int = 0
    stop_after: int | None = None
    resolution: float = 1.0
    data: float = 1.0
    calls: list[tuple[float, int]] = field(default_factory=list)

    def param_groups(self, model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]

    def __call__(self, score: float, epoch: int) -> None:
        self.calls.append((score, epoch))
        if epoch == self.stop_after:
            raise StopIteration


class Linear(nn.Module):
    """The smallest classifier: no batch norm, nothing random."""

    def __init__(self, inputs: int, classes: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(images.flatten(1))
        return logits


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return datasets["digits"].load(8, None, 0)


def small(data: ImageData, images: int = 96) -> ImageData:
    parts = {
        f"{part}_{what}": getattr(data, f"{part}_{what}")[:images]
        for part in ("train", "val")
        for what in ("images", "labels")
    }
    return replace(data, **parts)


def train(
    job: ImageClassification, params: dict[str, Any], report: Reported, model: nn.Module | None = None
) -> tuple[float, nn.Module]:
    torch.manual_seed(report.seed)
    model = model or models["resnet8"](10, 1)
    return job(model, params, report), model  # type: ignore[arg-type]  # only what a train function uses of a Report


def test_it_learns(digits: ImageData) -> None:
    report = Reported(epochs=3)
    score, model = train(ImageClassification(digits, schedule=cosine), {"learning_rate": 0.1, "batch_size": 64}, report)
    assert score > 0.6  # a guess has 0.1
    assert [epoch for _, epoch in report.calls] == [1, 2, 3]
    assert report.calls[-1][0] == score
    assert score == accuracy(model, digits, "val")


def test_the_seed_decides_everything(digits: ImageData) -> None:
    job = ImageClassification(small(digits))
    runs = [train(job, {"batch_size": 32}, Reported(seed=seed)) for seed in (1, 1, 2)]
    weights = [torch.cat([p.detach().flatten() for p in model.parameters()]) for _, model in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_random_numbers_of_the_model_are_seeded_and_the_callers_are_left_alone(digits: ImageData) -> None:
    model = nn.Sequential(nn.Dropout(0.5), Linear(64))
    job = ImageClassification(small(digits))
    before = torch.get_rng_state()
    trained = []
    for _ in range(2):
        twin = copy.deepcopy(model)
        job(twin, {"batch_size": 32}, Reported())  # type: ignore[arg-type]
        trained.append(twin)
    assert all(map(torch.equal, trained[0].parameters(), trained[1].parameters()))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_step_is_that_of_the_formula(digits: ImageData) -> None:
    """One batch of all images, which are black, so that cropping changes nothing: w - lr (gradient + wd w)."""
    data = small(digits)
    black = replace(data, train_images=torch.zeros_like(data.train_images))
    job = ImageClassification(black, schedule=lambda progress, decay: 1.0)
    model = Linear(64)
    start = model.linear.weight.detach().clone()
    inputs = black.normalize(black.train_images).flatten(1)
    loss = nn.functional.cross_entropy(model.linear(inputs), black.train_labels)
    (gradient,) = torch.autograd.grad(loss, model.linear.weight)
    params = {"learning_rate": 0.5, "weight_decay": 0.01, "momentum": 0.0, "batch_size": 96}
    job(model, params, Reported(epochs=1))  # type: ignore[arg-type]
    torch.testing.assert_close(model.linear.weight.detach(), start - 0.5 * (gradient + 0.01 * start))


class CountBatches(nn.Module):
    """Notes the size of every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.sizes.append(len(images))
        logits: torch.Tensor = self.linear(images.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("images", "batch_size", "batches"), [(97, 32, 3), (96, 32, 3), (95, 32, 2), (33, 32, 1), (5, 2, 2)]
)
def test_every_batch_is_full_so_that_batch_norm_never_sees_one_image(
    digits: ImageData, images: int, batch_size: int, batches: int
) -> None:
    model = CountBatches()
    ImageClassification(small(digits, images))(model, {"batch_size": batch_size}, Reported(epochs=2))  # type: ignore[arg-type]
    assert model.sizes == [batch_size] * batches * 2


@pytest.mark.parametrize("batch_size", [0, 1, 97, 1000])
def test_an_impossible_batch_size_is_refused(digits: ImageData, batch_size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size {batch_size} is impossible: digits has 96 training images"):
        train(ImageClassification(small(digits)), {"batch_size": batch_size}, Reported())


def test_an_unknown_hyperparameter_is_refused(digits: ImageData) -> None:
    with pytest.raises(InputError, match="unknown hyperparameter 'lr'"):
        train(ImageClassification(small(digits)), {"lr": 0.1}, Reported())


def test_divergence_is_reported_as_nan_at_once(digits: ImageData) -> None:
    report = Reported(epochs=5)
    score, _ = train(ImageClassification(digits), {"learning_rate": 1e30, "batch_size": 32}, report, Linear(64))
    assert math.isnan(score)
    assert len(report.calls) == 1
    assert math.isnan(report.calls[0][0])


def test_a_report_may_end_the_training(digits: ImageData) -> None:
    report = Reported(epochs=5, stop_after=2)
    with pytest.raises(StopIteration):
        train(ImageClassification(small(digits)), {"batch_size": 32}, report)
    assert len(report.calls) == 2


def test_accuracy_counts_in_evaluation_mode_and_leaves_the_mode(digits: ImageData) -> None:
    model = Linear(64)
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.bias.copy_(torch.arange(10.0))  # always says 9
    model.train()
    assert accuracy(model, digits, "test") == (digits.test_labels == 9).double().mean().item()
    assert model.training
    assert ImageClassification(digits).evaluate(model) == {"accuracy": accuracy(model, digits, "test")}


def test_the_schedule_is_followed_batch_by_batch(digits: ImageData) -> None:
    asked: list[tuple[float, float]] = []

    def schedule(progress: float, decay: float) -> float:
        asked.append((progress, decay))
        return 1.0

    job = ImageClassification(small(digits), Hyperparameters(lr_decay=0.3), schedule)
    job(Linear(64), {"batch_size": 48}, Reported(epochs=2))  # type: ignore[arg-type]
    assert asked == [(0.0, 0.3), (0.25, 0.3), (0.5, 0.3), (0.75, 0.3)]


def test_schedules_by_hand() -> None:
    assert [cosine(p, 0.1) for p in (0.0, 1 / 3, 1.0)] == pytest.approx([1.0, 0.75, 0.0])
    assert [step(p, 0.1) for p in (0.0, 0.499, 0.5, 0.749, 0.75, 1.0)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert all(schedule(0.0, 0.1) == 1.0 for schedule in SCHEDULES.values())


def test_the_inner_loop_reads_nothing_back(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of the loss and one of the accuracy an epoch, however many batches: each would make a GPU wait."""
    reads = []
    item = torch.Tensor.item

    def counted(tensor: torch.Tensor) -> Any:
        reads.append(tensor.shape)
        return item(tensor)

    monkeypatch.setattr(torch.Tensor, "item", counted)
    for batch_size in (8, 48):
        reads.clear()
        ImageClassification(small(digits))(Linear(64), {"batch_size": batch_size}, Reported(epochs=3))  # type: ignore[arg-type]
        assert len(reads) == 6
