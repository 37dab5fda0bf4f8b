"""What `benchmarks.mup` measures: networks, how they are trained, and what is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from prunetune import PruningPlan, prune
from prunetune._utils.caller import seed_all
from prunetune.data import ImageData, datasets
from prunetune.engine import fresh_proxy
from prunetune.training.execution import AS_MEASURED
from prunetune.training.image_classification import Hyperparameters, Training, accuracy
from prunetune.training.schedules import cosine
from prunetune.transfer.base import OptimizerKind
from prunetune.transfer.groups import proxy_groups
from prunetune.zoo import models
from prunetune.zoo.vgg import VGG

Row: TypeAlias = dict[str, Any]
MUP: Final = "mup"
RULES: Final = (MUP, "identity")
STEPS: Final = 4
PROBE: Final = 64
"""Images of the batch on which a coordinate check trains and looks."""


class Perceptron(nn.Module):
    """Three hidden layers and no norm: what the theory is about."""

    def __init__(self, pixels: int, width: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.first = nn.Linear(channels * pixels**2, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, width)
        self.last = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, channels, pixels, pixels) to logits (B, num_classes)."""
        hidden = self.first(self.flatten(images)).relu()
        out: torch.Tensor = self.last(self.third(self.second(hidden).relu()).relu())
        return out


@dataclass(frozen=True)
class Task:
    """A network, how it is trained, the learning rates to try (if any), and that of the coordinate check (if any)."""

    name: str
    build: Callable[[int, int], nn.Module]
    """Of the number of classes and of channels."""
    epochs: int
    rates: tuple[float, ...]
    step: float | None
    optimizer: OptimizerKind = "sgd"
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class Scale:
    """What is run on which data, at which widths, and with how many seeds."""

    tasks: tuple[Task, ...]
    dataset: str
    pixels: int
    images: int
    val: int
    seeds: int
    coordinate_seeds: int
    widths: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    batch: int = 64


def powers(first: int, last: int) -> tuple[float, ...]:
    """The powers of two from one exponent to another."""
    return tuple(2.0**each for each in range(first, last + 1))


def wide_from_zero(num_classes: int, channels: int) -> nn.Module:
    """The VGG below, four times as wide and with a readout of zeros (Tensor Programs V, appendix D.2).

    Without it the initial logits are larger in narrow networks, by one over the root of the width, and the first steps
    take them back. At the widths below, an eighth has four to eight channels, too few for the theory.
    """
    model = VGG(((128,), (256, 256)), num_classes, channels)
    nn.init.zeros_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)
    return model


_VGG: Final = partial(VGG, ((32,), (64, 64)))

SCALES: Final = {
    "smoke": Scale(
        (Task("perceptron, sgd", partial(Perceptron, 8, 32), 1, powers(-6, -4), 0.1),), "digits", 8, 128, 64, 1, 1,
        widths=(1.0, 0.25),
    ),
    "cpu": Scale(
        (
            Task("perceptron, sgd", partial(Perceptron, 14, 512), 5, powers(-10, 0), 0.1),
            Task("perceptron, adam", partial(Perceptron, 14, 512), 5, powers(-14, -4), 2.0**-9, "adam", 0.01),
            Task("vgg3-bn, sgd", _VGG, 3, powers(-9, 0), 0.1),
            Task("resnet8, sgd", models["resnet8"], 4, powers(-8, 1), 0.1),
            Task("vgg3-bn, four times as wide, readout from 0, sgd", wide_from_zero, 0, (), 0.025),
        ),
        "fashion-mnist", 14, 3000, 2000, 2, 5,
    ),
}  # fmt: skip


@lru_cache(maxsize=1)
def data_of(dataset: str, pixels: int, images: int, val: int) -> ImageData:
    """The first training and validation images of a dataset."""
    data = datasets[dataset].load(pixels, None, 0)
    return replace(
        data,
        train_images=data.train_images[:images], train_labels=data.train_labels[:images],
        val_images=data.val_images[:val], val_labels=data.val_labels[:val],
    )  # fmt: skip


def proxy(scale: Scale, task: Task, job: Mapping[str, Any]) -> tuple[nn.Module, torch.optim.Optimizer, ImageData]:
    """A fresh network of the job's width, its optimizer by the job's rule, and the data; all random is seeded."""
    torch.set_num_threads(1)
    data = data_of(scale.dataset, scale.pixels, scale.images, scale.val)
    seed_all(1000 + job["seed"])

    def build() -> nn.Module:
        return task.build(data.num_classes, data.channels)

    plan = PruningPlan({}, {})
    if job["width"] < 1:
        with torch.random.fork_rng():
            examples = data.normalize(data.train_images[:8])
            plan = prune(build(), examples, scorer="uniform", ratio=job["width"]).plan
    model = fresh_proxy(build, plan)
    ask = proxy_groups(plan, job["rule"], "redraw")
    groups = ask(model, lr=job["rate"], weight_decay=task.weight_decay, optimizer=task.optimizer)
    if task.optimizer == "adam":
        return model, torch.optim.AdamW(groups, fused=True), data
    return model, torch.optim.SGD(groups, momentum=0.9, fused=True), data


def coordinates(scale: Scale, task: Task, job: Mapping[str, Any]) -> Row:
    """By layer, after 0 to ``STEPS`` steps on one batch: the outputs' mean absolute value, and how far they moved.

    The coordinate check of Tensor Programs V, appendix D.1. ``moved`` begins with 0, for no step.
    """
    model, optimizer, data = proxy(scale, task, job)
    images, labels = data.normalize(data.train_images[:PROBE]), data.train_labels[:PROBE]
    outputs: dict[str, list[torch.Tensor]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            kept = outputs.setdefault(name, [])
            layer.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out.detach().clone()))
    model.train()
    for number in range(STEPS + 1):
        loss = F.cross_entropy(model(images), labels)
        if number < STEPS:
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return {
        "size": {name: [_mean(out) for out in seen] for name, seen in outputs.items()},
        "moved": {name: [_mean(out - seen[0]) for out in seen] for name, seen in outputs.items()},
    }


def _mean(values: torch.Tensor) -> float:
    return float(f"{values.abs().mean().item():.6g}")


def rate(scale: Scale, task: Task, job: Mapping[str, Any]) -> Row:
    """A whole training: accuracy and cross-entropy on the validation images; None for what diverged."""
    model, optimizer, data = proxy(scale, task, job)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    generator = torch.Generator().manual_seed(job["seed"])
    with AS_MEASURED.prepared(model, data.device) as forward:
        settings = Hyperparameters(batch_size=scale.batch)
        training = Training(data, forward, optimizer, settings, cosine, generator)
        for epoch in range(task.epochs):
            model.train()
            if not math.isfinite(training.epoch((epoch, task.epochs))):
                return {"accuracy": None, "loss": None}
    loss = _loss(model, data)
    if not math.isfinite(loss):
        return {"accuracy": None, "loss": None}
    return {"accuracy": round(accuracy(model, data, "val"), 5), "loss": round(loss, 5)}


@torch.no_grad()
def _loss(model: nn.Module, data: ImageData) -> float:
    model.eval()
    return F.cross_entropy(model(data.normalize(data.val_images)), data.val_labels).item()
