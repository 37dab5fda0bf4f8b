"""The networks, learning rates and widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops.misc import Conv2dNormActivation

from benchmarks.common.transformer import Block
from prunetune import Pruning
from prunetune.transfer.kinds import OptimizerKind
from prunetune.zoo import models
from prunetune.zoo.resnet import ResNet
from prunetune.zoo.vgg import VGG

MUP: Final = "mup"
MEASURED: Final = "measured"
RULES: Final = (MUP, "norm-aware", "identity", MEASURED)
DEFAULT: Final = Pruning().transfer
"""The rule that a search follows when nobody names one."""


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
    depths: tuple[float, ...] = ()
    """Shares of the residual blocks that are tried in place of widths."""

    @property
    def reference(self) -> float:
        """The rate at which a rule is measured: that of the coordinate check, or the middle of those that are tried."""
        return self.rates[len(self.rates) // 2] if self.step is None else self.step

    def sizes(self, scale: Scale) -> tuple[float, ...]:
        """The widths, or the depths where it has some; 1 first, the full network."""
        return (1.0, *self.depths) if self.depths else scale.widths

    def played_as(self, rule: str) -> str:
        """The rule whose trainings are this one's, too: all that know depth do the same with it."""
        return MUP if self.depths and rule not in ("identity", MEASURED) else rule


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
    widths: tuple[float, ...] = (1.0, 0.25, 0.125)
    batch: int = 64


def powers(first: int, last: int) -> tuple[float, ...]:
    """The powers of two from one exponent to another."""
    return tuple(2.0**each for each in range(first, last + 1))


def fan_in(num_classes: int, channels: int) -> nn.Module:
    """The VGG below with He's other initialisation, whose filters are longer in narrower networks."""
    model = _VGG(num_classes, channels)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return model


def inverted(num_classes: int, channels: int) -> nn.Module:
    """Blocks of MobileNetV2: depthwise convolutions, and every convolution before a batch norm."""
    blocks = (InvertedResidual(32, 32, 1, 4), InvertedResidual(32, 64, 2, 4), InvertedResidual(64, 64, 1, 4))
    first = Conv2dNormActivation(channels, 32, 3, activation_layer=nn.ReLU6)
    return nn.Sequential(first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


class Rows(nn.Module):
    """A transformer that reads a picture line by line, with layer norms before attention and perceptron."""

    def __init__(self, pixels: int, width: int, depth: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(channels * pixels, width)
        self.places = nn.Parameter(0.02 * torch.randn(pixels, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, channels, pixels, pixels) to logits (B, num_classes)."""
        hidden = self.embed(images.transpose(1, 2).flatten(2)) + self.places
        out: torch.Tensor = self.last(self.norm(self.blocks(hidden)).mean(1))
        return out


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
            Task("perceptron, sgd", partial(Perceptron, 14, 512), 5, powers(-6, 0), 0.1),
            Task("perceptron, adam", partial(Perceptron, 14, 512), 5, powers(-12, -5), 2.0**-9, "adam", 0.01),
            Task("vgg3-bn, sgd", _VGG, 3, powers(-6, 0), 0.1),
            Task("vgg3-bn from fan in, sgd", fan_in, 3, powers(-6, 0), 0.1),
            Task("resnet8, sgd", models["resnet8"], 4, powers(-6, 0), 0.1),
            Task("inverted residuals, sgd", inverted, 3, powers(-5, -1), 0.1),
            Task("transformer, adam", partial(Rows, 14, 128, 2), 5, powers(-12, -5), 2.0**-9, "adam", 0.01),
            Task(
                "8 blocks, adam", partial(Rows, 14, 32, 8), 5, powers(-11, -5), None, "adam", 0.01, depths=(0.5, 0.25)
            ),
            Task("8 blocks, sgd", partial(Rows, 14, 32, 8), 5, powers(-5, 1), None, depths=(0.5, 0.25)),
            Task("resnet26, sgd", partial(ResNet, 4), 4, powers(-6, 0), None, depths=(0.5, 0.25)),
            Task("vgg3-bn, four times as wide, readout from 0, sgd", wide_from_zero, 0, (), 0.025),
        ),
        "fashion-mnist", 14, 3000, 2000, 5, 5,
    ),
}  # fmt: skip
