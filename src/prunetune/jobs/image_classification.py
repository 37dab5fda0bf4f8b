"""Training an image classifier on tensors that are on the device, as a train function for the tuner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F

from prunetune.data import ImageData
from prunetune.errors import InputError, unknown_name
from prunetune.jobs.augment import random_crop, random_flip
from prunetune.jobs.schedules import Schedule, step

if TYPE_CHECKING:
    from prunetune.backends.trial import Report

EVALUATION_BATCH: Final = 512


@dataclass(frozen=True)
class Hyperparameters:
    """Of stochastic gradient descent with momentum. A search sets some; the others keep these values.

    The defaults are the paper's training recipe; ``lr_decay`` is the factor of the step schedule.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    lr_decay: float = 0.1

    def updated(self, params: Mapping[str, Any]) -> Hyperparameters:
        """A copy with the values in ``params``. Raises InputError for a name that is none of these."""
        names = [field.name for field in fields(self)]
        for name in params:
            if name not in names:
                raise unknown_name("hyperparameter", name, names)
        return replace(self, **params)


@dataclass(frozen=True, eq=False)
class ImageClassification:
    """A train function, ``job(model, params, report) -> score``, for classifiers on ``data``.

    SGD with momentum; the images are cropped at random out of a frame of zeros, an eighth of their size on
    each side, and mirrored where that keeps the label. ``schedule`` gives the learning rate over ``report.epochs``.
    The score is the accuracy on the validation images, 0..1, after the last epoch.

    Trains the given model in place, on the data's device. On the CPU the result depends on ``report.seed``, the model's
    weights and the number of threads, and on nothing else.
    """

    data: ImageData
    defaults: Hyperparameters = Hyperparameters()
    schedule: Schedule = step

    def __call__(self, model: nn.Module, params: Mapping[str, Any], report: Report) -> float:
        """Train ``model`` and return its validation accuracy; NaN as soon as an epoch's loss is not finite.

        Raises InputError for an unknown hyperparameter, and for a batch size that is larger than the training set or
        1, with which batch norm could not work.
        """
        settings = self.defaults.updated(params)
        check_batch_size(settings.batch_size, self.data)
        model.to(self.data.device)
        sgd = torch.optim.SGD(
            model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        score = math.nan
        cuda = [self.data.device] if self.data.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(report.seed)  # for modules that draw random numbers themselves, such as dropout
            generator = torch.Generator(self.data.device).manual_seed(report.seed)
            for epoch in range(1, report.epochs + 1):
                loss = self._train_epoch(model, sgd, settings, (epoch - 1, report.epochs), generator)
                score = accuracy(model, self.data, "val") if math.isfinite(loss) else math.nan
                report(score, epoch)
                if math.isnan(score):
                    break
        return score

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``{"accuracy": 0..1}`` on the test images, which have no part in training or selection."""
        return {"accuracy": accuracy(model.to(self.data.device), self.data, "test")}

    def _train_epoch(
        self,
        model: nn.Module,
        sgd: torch.optim.SGD,
        settings: Hyperparameters,
        done: tuple[int, int],
        generator: torch.Generator,
    ) -> float:
        """One pass over the training images; returns the sum of the batches' losses, read once, at the end.

        The images that are left over when the batches are full wait for another epoch's order.
        """
        model.train()
        data = self.data
        images, labels = data.train_images, data.train_labels
        order = torch.randperm(len(labels), generator=generator, device=data.device)
        batches = torch.split(order, settings.batch_size)[: len(labels) // settings.batch_size]
        epochs_done, epochs = done
        total = torch.zeros((), device=data.device)
        for number, batch in enumerate(batches):
            progress = (epochs_done + number / len(batches)) / epochs
            for group in sgd.param_groups:
                group["lr"] = settings.learning_rate * self.schedule(progress, settings.lr_decay)
            inputs = random_crop(images[batch], data.image_size // 8, generator)
            if data.flip:
                inputs = random_flip(inputs, generator)
            sgd.zero_grad()
            loss = F.cross_entropy(model(data.normalize(inputs)), labels[batch])
            torch.autograd.backward(loss)
            sgd.step()
            total += loss.detach()
        return total.item()


def check_batch_size(batch_size: int, data: ImageData) -> None:
    """Raise InputError unless ``data`` has that many training images and batch norm sees more than one at a time."""
    if not 2 <= batch_size <= len(data.train_labels):
        raise InputError(
            f"batch_size {batch_size} is impossible: {data.name} has {len(data.train_labels)} training images, so it "
            f"can be 2 to {len(data.train_labels)}"
        )


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageData, part: str) -> float:
    """Share of the images of ``part`` ("val" or "test") that ``model`` classifies correctly, in evaluation mode.

    The model is left in the mode it was in.
    """
    images, labels = {"val": (data.val_images, data.val_labels), "test": (data.test_images, data.test_labels)}[part]
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    for inputs, targets in zip(
        torch.split(images, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True
    ):
        correct += (model(data.normalize(inputs)).argmax(1) == targets).sum()
    model.train(was_training)
    return correct.item() / len(labels)
