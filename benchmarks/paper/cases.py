"""The paper's networks, data and extents, or what stands for them where there is no GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

from prunetune.backends import Int, SearchSpace, resolve_space

Record: TypeAlias = dict[str, Any]
Params: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """A setting of the paper's experiments, or what stands for it where there is no GPU."""

    networks: Mapping[str, str]
    """The paper's name of a network → the network that is trained."""
    datasets: Mapping[str, tuple[str, int | None]]
    """The paper's name of a dataset → the one that is read, and its pixels."""
    train: int | None
    """Training images; None: all."""
    val: int | None
    epochs: int
    trials: int
    extra_trials: int
    seeds: int
    optimizers: tuple[str, ...]
    batch: tuple[int, int]
    """Ends of the range of batch sizes; other ranges are the paper's."""

    def record(self) -> Record:
        """All of it as plain values."""
        plain: Record = json.loads(json.dumps(asdict(self)))
        return plain

    def space(self, *, extra: bool) -> SearchSpace:
        """The paper's Table 2: three hyperparameters, or all five."""
        named = resolve_space("paper-extra" if extra else "paper")
        return SearchSpace({**named, "batch_size": Int(*self.batch, log=True)})


PAPER_NETWORKS: Final = {
    "VGG16-BN": "vgg16-bn", "VGG19-BN": "vgg19-bn", "MobileNetV2": "mobilenetv2", "ResNet56": "resnet56",
    "ResNet8": "resnet8", "ResNet14": "resnet14", "ResNet32": "resnet32",
}  # fmt: skip


PRESETS: Final[Mapping[str, Preset]] = {
    "smoke": Preset(
        {"VGG16-BN": "vgg3-bn, narrow", "ResNet56": "resnet8"},
        {"CIFAR10": ("digits", 8)},
        96, 48, 1, 1, 1, 1, ("tpe",), (16, 32),
    ),
    "cpu": Preset(
        {
            "VGG16-BN": "vgg4-bn", "VGG19-BN": "vgg4-bn", "MobileNetV2": "mobilenetv2", "ResNet56": "resnet20",
            "ResNet8": "resnet8", "ResNet14": "resnet14", "ResNet32": "resnet32",
        },
        {"CIFAR10": ("fashion-mnist", 16), "CIFAR100": ("digits", 16)},
        1000, 500, 9, 12, 16, 2, ("tpe",), (16, 128),
    ),
    "full": Preset(
        PAPER_NETWORKS,
        {"CIFAR10": ("cifar10", None), "CIFAR100": ("cifar100", None), "TinyImageNet": ("tinyimagenet", None)},
        None, None, 160, 50, 100, 5, ("tpe", "bo", "cma-es"), (32, 1024),
    ),
}  # fmt: skip
