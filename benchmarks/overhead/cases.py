"""The searches whose own price is measured: trainings that take no time, of a perceptron and of a ResNet-56."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from prunetune.zoo import models

LR: Final = (1e-4, 1.0)
WEIGHT_DECAY: Final = (1e-6, 1e-2)
MOMENTUM: Final = (0.5, 0.99)
HUNDRED: Final = 100
OPTIMIZERS: Final = ("random", "optuna:cmaes")
TRIALS: Final = (24, 200, 3000)
REPORT_TRIALS: Final = 1000


def perceptron() -> nn.Module:
    """As small as a network is, so that building and cutting it takes no time either."""
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))


def resnet56() -> nn.Module:
    """For CIFAR-10."""
    return models["resnet56"](10, 3)


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "perceptron": (perceptron, torch.zeros(2, 6)),
    "resnet56": (resnet56, torch.zeros(64, 3, 32, 32)),
}


def score(params: Mapping[str, Any]) -> float:
    """A bowl around a learning rate of a hundredth: known without training."""
    return -((math.log10(params["lr"]) + 2) ** 2) - (params["momentum"] - 0.9) ** 2


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def by_trial(ends: Sequence[float]) -> dict[str, float]:
    """Milliseconds a trial: of all, of the first hundred and of the last; `ends` begins with the search's beginning."""
    count = min(HUNDRED, len(ends) - 1)
    return {
        "ms a trial": 1e3 * (ends[-1] - ends[0]) / (len(ends) - 1),
        "first hundred": 1e3 * (ends[count] - ends[0]) / count,
        "last hundred": 1e3 * (ends[-1] - ends[-1 - count]) / count,
    }
