"""The networks, their proxies, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PAPER: Final = "the paper's rule: p = 85, floor 0.15"


@dataclass(frozen=True)
class Network:
    """A network, the percentage that the paper reports for it on CIFAR-10 if it does, and a proxy of ours."""

    name: str
    paper_saved: int | None
    ours: str
    budget: Mapping[str, Any]


NETWORKS: Final = (
    Network("vgg16-bn", 23, "ours: a quarter of the width", {"ratio": 0.25}),
    Network("mobilenetv2", 32, "ours: an eighth of the width", {"ratio": 0.125}),
    Network("resnet56", 12, "ours: FLOPs 0.01, depth", {"flops": 0.01, "depth": True, "floor": 0.1}),
    Network("vgg19-bn", None, "ours: a quarter of the width", {"ratio": 0.25}),
    Network("resnet20", None, "ours: FLOPs 0.02, depth", {"flops": 0.02, "depth": True, "floor": 0.1}),
)
"""Those of the paper's Table 3, which has times; VGG19-BN of its Table 1, and a smaller member of the ResNets."""


@dataclass(frozen=True)
class Scale:
    """How much is measured: images in a trial's epoch, and in a step; seconds of timing steps; trials of each network.

    The evaluation has a ninth as many images as the epoch, as in the usual split of CIFAR's 50,000.
    """

    images: int
    batch: int
    seconds: float
    rounds: int


SCALES: Final = {
    "smoke": Scale(16, 8, 0.1, 1),
    "cpu": Scale(1152, 128, 12.0, 3),
    "full": Scale(45_000, 128, 20.0, 3),
}
