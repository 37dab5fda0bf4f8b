"""The networks, and the cuts of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from benchmarks.common.densenet import densenet_cifar
from benchmarks.common.shufflenetv2 import shufflenetv2
from prunetune.zoo import models as zoo


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    batch: int
    size: int


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        network: nn.Module = torchvision.models.get_model(name, weights=None)
        return network

    return build


SMALL = {
    **{name: zoo[name] for name in ("vgg16-bn", "resnet20", "resnet56", "mobilenetv2")},
    "densenet-cifar": densenet_cifar,
    "shufflenetv2": shufflenetv2,
}
TORCHVISION = ("resnet18", "mobilenet_v2", "efficientnet_b0", "vit_b_16", "convnext_tiny", "regnet_y_400mf")
CASES: Mapping[str, Case] = {
    **{name: Case(functools.partial(build, 10, 3), 128, 32) for name, build in SMALL.items()},
    **{name: Case(_torchvision(name), 4, 224) for name in TORCHVISION},
}
CUTS = ("1", "1/2", "1/4", "p85")
