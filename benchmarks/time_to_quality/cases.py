"""The tasks of `benchmarks.time_to_quality`: network, data, hyperparameters, and how much of everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import torch
from torch import nn

from benchmarks.common.images import network, part
from prunetune import Categorical, Float, Pruning, SearchSpace
from prunetune.data import ImageData, datasets
from prunetune.training.image_classification import ImageClassification
from prunetune.training.schedules import SCHEDULES


@dataclass(frozen=True)
class Preset:
    """One task, as a user would have it; everything here is the same for all arms."""

    dataset: str
    image_size: int
    train: int | None
    """Training images, drawn anew for each seed; None: all that the dataset has."""
    val: int | None
    """Validation images, by which searches judge; None: all."""
    model: str
    epochs: int
    """Of a full training; Hyperband's rungs are the powers of 3 below."""
    trials: int
    pruning: Mapping[str, Any]
    """Arguments of `Pruning`."""
    space: SearchSpace
    schedule: str = "cosine"
    clock: Literal["cpu", "wall"] = "cpu"
    """The headline: process time, or wall time where a GPU does the work."""
    finals: int = 2
    """Trainings of the winner, with seeds that chose nothing, whose mean test accuracy counts."""

    @property
    def few_trials(self) -> int:
        """A quarter of the trials."""
        return max(1, self.trials // 4)

    @property
    def short_epochs(self) -> int:
        """A third of the epochs."""
        return max(1, self.epochs // 3)

    def record(self) -> dict[str, Any]:
        """All of it as plain values."""
        plain = {**asdict(replace(self, space=None)), "pruning": dict(self.pruning)}  # type: ignore[arg-type]
        return {**plain, "space": self.space.to_dict()}

    def build(self, data: ImageData) -> nn.Module:
        """The base, with fresh weights."""
        return network(self.model, data)

    def asked(self, transfer: str) -> Pruning:
        """How the proxy is cut, and what it makes of hyperparameters."""
        return Pruning(**self.pruning, transfer=transfer)

    def load(self, seed: int, device: str) -> ImageData:
        """The data of this seed: its own training and validation images, and all published test images."""
        data = datasets[self.dataset].load(self.image_size, None, seed)
        return part(part(data, "train", self.train, seed), "val", self.val, seed).to(device)

    def job(self, data: ImageData) -> ImageClassification:
        """The library's train function, which all arms use."""
        return ImageClassification(data, schedule=SCHEDULES[self.schedule])


def example(data: ImageData, count: int = 8) -> torch.Tensor:
    """What the scorer sees and steps are timed on: pictures as the network gets them, on the CPU, where it is cut."""
    return data.normalize(data.train_images[:count]).cpu()


def _space(batch_sizes: tuple[int, ...]) -> SearchSpace:
    """Four hyperparameters of SGD, each over a range of which most is bad."""
    return SearchSpace(
        {
            "learning_rate": Float(1e-3, 1.0, log=True),
            "weight_decay": Float(1e-5, 1e-1, log=True),
            "batch_size": Categorical(batch_sizes),
            "momentum": Float(0.0, 0.99),
        }
    )


QUARTER_WIDTH: Final = {"scorer": "uniform", "ratio": 0.25}

PRESETS: Final[Mapping[str, Preset]] = {
    "smoke": Preset("digits", 8, 200, 100, "vgg3-bn, narrow", 3, 4, QUARTER_WIDTH, _space((16, 32)), finals=1),
    "cpu": Preset("fashion-mnist", 14, 2000, 1000, "vgg4-bn", 9, 50, QUARTER_WIDTH, _space((64, 128, 256))),
    "vgg16": Preset("fashion-mnist", 16, 1000, 500, "vgg16-bn", 9, 50, QUARTER_WIDTH, _space((32, 64, 128)), finals=1),
    "resnet34": Preset(
        "fashion-mnist", 14, 1000, 500, "resnet34, small images", 9, 50, QUARTER_WIDTH, _space((32, 64, 128)), finals=1
    ),
    "full": Preset(
        "cifar10", 32, None, None, "vgg16-bn", 27, 50, QUARTER_WIDTH, _space((64, 128, 256, 512)), clock="wall"
    ),
}
