"""One network and one scorer: how long it takes, what it keeps, what that saves."""

from __future__ import annotations

import argparse
import copy
import fnmatch
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common.densenet import densenet_cifar
from prunetune import PruneResult, prune
from prunetune.data import datasets
from prunetune.engine import DependencyGraph, step_time
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.base import Batch, Need
from prunetune.plugins.scoring import score
from prunetune.plugins.slimming import SlimmingPenalty
from prunetune.zoo import models

IMAGE_SIZE = 32
CLASSES = 10
THIRD = 3
HEADER = (
    "network",
    "scorer",
    "seconds",
    "steps",
    "kept early, %",
    "kept late, %",
    "parameters, %",
    "FLOPs, %",
    "times faster",
    "failure",
)


def vit() -> nn.Module:
    """A vision transformer of six layers, 2.7 million parameters."""
    return torchvision.models.VisionTransformer(IMAGE_SIZE, 4, 6, 6, 192, 768, num_classes=CLASSES)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg16-bn": lambda: models["vgg16-bn"](CLASSES, 3),
    "resnet56": lambda: models["resnet56"](CLASSES, 3),
    "mobilenetv2": lambda: models["mobilenetv2"](CLASSES, 3),
    "densenet-cifar": lambda: densenet_cifar(CLASSES, 3),
    "vit": vit,
}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each network and scorer."""
    data = batches(options.batch)
    for network in fnmatch.filter(NETWORKS, options.model):
        torch.manual_seed(0)
        fresh = NETWORKS[network]()
        trained = train(copy.deepcopy(fresh), data, options.train_steps)
        graph = DependencyGraph.of(fresh, data[0][0])
        for name in options.scorer:
            needs_training = Need.TRAINED in make_scorer(name).needs
            row = measure(name, trained if needs_training else fresh, graph, data, options.seconds)
            yield {"network": network, "scorer": name, **row}


def batches(size: int) -> list[Batch]:
    """The first training images of the digits, in three equal channels, with their labels."""
    digits = datasets["digits"].load(IMAGE_SIZE, None, 0)
    images = digits.normalize(digits.train_images).expand(-1, 3, -1, -1)
    count = max(1, len(images) // size)
    return [(images[i * size :][:size].contiguous(), digits.train_labels[i * size :][:size]) for i in range(count)]


def train(model: nn.Module, data: Sequence[Batch], steps: int) -> nn.Module:
    """The model after so many steps of SGD with the penalty of network slimming."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    penalty = SlimmingPenalty(model) if norms else None
    model.train()
    for step in range(steps):
        images, labels = data[step % len(data)]
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        if penalty is not None:
            penalty()
        optimizer.step()
    return model


def measure(
    name: str, model: nn.Module, graph: DependencyGraph, data: Sequence[Batch], seconds: float
) -> dict[str, Any]:
    """One row of the table; or what was in the way."""
    inputs: Tensor = data[0][0]  # type: ignore[assignment]
    try:
        start = time.perf_counter()
        score(model, inputs, graph, make_scorer(name), data=data, seed=0)
        scoring = time.perf_counter() - start
        result = prune(model, inputs, scorer=name, data=data)
    except InputError as error:
        return {"failure": str(error).partition(";")[0]}
    times = step_time({"base": model, "proxy": result.model}, inputs, seconds=seconds)
    early, late = early_and_late(result)
    base, proxy = result.cost.base, result.cost.proxy
    return {
        "seconds": scoring,
        "steps": scoring / times["base"],
        "kept early, %": 100 * early,
        "kept late, %": 100 * late,
        "parameters, %": 100 * proxy.parameters / base.parameters,
        "FLOPs, %": 100 * proxy.flops / base.flops,
        "times faster": times["base"] / times["proxy"],
    }


def early_and_late(result: PruneResult) -> tuple[float, float]:
    """Of the channels of the first and of the last third of all layers: the shares that stay."""
    shares = [
        (layer.after[0], layer.before[0])
        for layer in result.layers
        if any((layer.name, 0) in group.producers for group in result.graph.groups)
    ]
    third = max(1, len(shares) // THIRD)
    parts = (np.array(shares[:third]).sum(axis=0), np.array(shares[-third:]).sum(axis=0))
    return tuple(float(after / before) for after, before in parts)  # type: ignore[return-value]
