"""Training an image classifier on tensors that are on the device, as a train function for the tuner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F

from prunetune.data import ImageData, reduced
from prunetune.errors import InputError
from prunetune.training.augment import augment
from prunetune.training.execution import AS_MEASURED, Execution, Forward, deterministic
from prunetune.training.hyperparameters import Updatable
from prunetune.training.schedules import Schedule, step

if TYPE_CHECKING:
    from prunetune.backends.study.trial import Report

EVALUATION_BATCH: Final = 512
FUSED: Final = ("cpu", "cuda")
"""Devices on which the optimizer has one kernel for all tensors: a proxy has many small ones."""


@dataclass(frozen=True)
class Hyperparameters(Updatable):
    """Of stochastic gradient descent with momentum. A search sets some; the others keep these values.

    The defaults are the paper's training recipe; ``lr_decay`` is the factor of the step schedule.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    lr_decay: float = 0.1


@dataclass(frozen=True, eq=False)
class ImageClassification:
    """A train function, ``job(model, params, report) -> score``, for classifiers on ``data``.

    SGD with momentum, on images that are augmented as ``data.augmentation`` says. ``schedule`` gives the learning rate
    over ``report.epochs``, ``execution`` how the device computes. The score is the accuracy on the validation images,
    0..1, after the last epoch.

    Trains the given model in place, on the data's device. The images are there once, as bytes, however many trials use
    them; where ``report.resolution`` or ``report.data`` is below 1, trials share a smaller copy, whose images depend on
    ``seed``, see ``prunetune.data.reduced``. On the CPU the result depends on ``report.seed``, ``seed``, the model's
    weights and the number of threads, and on nothing else.
    """

    data: ImageData
    defaults: Hyperparameters = Hyperparameters()
    schedule: Schedule = step
    execution: Execution = AS_MEASURED
    seed: int = 0
    _smaller: dict[tuple[float, float], ImageData] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, model: nn.Module, params: Mapping[str, Any], report: Report) -> float:
        """Train ``model`` and return its validation accuracy; NaN as soon as an epoch's loss is not finite.

        Raises InputError for an unknown hyperparameter, and for a batch size that is larger than the training set or
        1, with which batch norm could not work.
        """
        settings = self.defaults.updated(params)
        data = self.data_at(report.resolution, report.data)
        check_batch_size(settings.batch_size, data)
        device, score = data.device, math.nan
        with self.execution.prepared(model, device) as forward, deterministic(device, report.seed) as generator:
            groups = report.param_groups(model, lr=settings.learning_rate, weight_decay=settings.weight_decay)
            sgd = torch.optim.SGD(groups, momentum=settings.momentum, fused=device.type in FUSED)
            for group in sgd.param_groups:
                group["initial_lr"] = group["lr"]  # the name that torch's own schedules use
            training = Training(data, forward, sgd, settings, self.schedule, generator)
            for epoch in range(1, report.epochs + 1):
                model.train()
                loss = training.epoch((epoch - 1, report.epochs))
                score = accuracy(model, data, "val", self.execution) if math.isfinite(loss) else math.nan
                report(score, epoch)
                if math.isnan(score):
                    break
        return score

    def data_at(self, resolution: float, share: float) -> ImageData:
        """The data that trials train and validate with, made once for all of them; ``data`` itself if both are 1."""
        if resolution == share == 1:
            return self.data
        key = (resolution, share)
        if key not in self._smaller:
            self._smaller[key] = reduced(self.data, resolution=resolution, share=share, seed=self.seed)
        return self._smaller[key]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``{"accuracy": 0..1}`` on the test images, which have no part in training or selection."""
        return {"accuracy": accuracy(model.to(self.data.device), self.data, "test", self.execution)}


@dataclass(frozen=True, eq=False)
class Training:
    """One network in training. Nothing in an epoch waits for the device: its loss is read once, at the end."""

    data: ImageData
    forward: Forward
    sgd: torch.optim.Optimizer
    settings: Hyperparameters
    schedule: Schedule
    generator: torch.Generator

    def epoch(self, done: tuple[int, int]) -> float:
        """One pass over the training images after so many epochs of so many; returns the sum of the batches' losses.

        The images that are left over when the batches are full wait for another epoch's order.
        """
        data, labels = self.data, self.data.train_labels
        order = torch.randperm(len(labels), generator=self.generator, device=data.device)
        batches = torch.split(order, self.settings.batch_size)[: len(labels) // self.settings.batch_size]
        total = torch.zeros((), device=data.device)
        for number, batch in enumerate(batches):
            progress = (done[0] + number / len(batches)) / done[1]
            for group in self.sgd.param_groups:
                group["lr"] = group["initial_lr"] * self.schedule(progress, self.settings.lr_decay)
            total += self.step(batch)
        return total.item()

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        """One step on the training images of these indices; returns their mean loss, which is still on the device."""
        images = augment(self.data.train_images[batch], self.data.augmentation, self.generator)
        self.sgd.zero_grad()
        loss = F.cross_entropy(self.forward(self.data.normalize(images)), self.data.train_labels[batch])
        torch.autograd.backward(loss)
        self.sgd.step()
        return loss.detach()


def check_batch_size(batch_size: int, data: ImageData) -> None:
    """Raise InputError unless ``data`` has that many training images and batch norm sees more than one at a time."""
    if not 2 <= batch_size <= len(data.train_labels):
        raise InputError(
            f"batch_size {batch_size} is impossible: {data.name} has {len(data.train_labels)} training images, so it "
            f"can be 2 to {len(data.train_labels)}"
        )


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageData, part: str, execution: Execution = AS_MEASURED) -> float:
    """Share of the images of ``part`` ("val" or "test") that ``model`` classifies correctly, in evaluation mode.

    The model is left in the mode it was in.
    """
    images, labels = {"val": (data.val_images, data.val_labels), "test": (data.test_images, data.test_labels)}[part]
    was_training = model.training
    model.eval()
    forward = execution.forward(model, data.device)
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    for inputs, targets in zip(
        torch.split(images, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True
    ):
        correct += (forward(data.normalize(inputs)).argmax(1) == targets).sum()
    model.train(was_training)
    return correct.item() / len(labels)
