"""Scorers side by side: how long they take, what they keep, and how much faster a training step of the proxy is.

Every scorer prunes every network at the paper's p = 85 and floor 0.15, on scans of handwritten digits. Scorers that
need a trained network get one that was trained for a few steps, with the penalty of network slimming. See README.md in
this folder for what the columns mean.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import lines
from benchmarks.common.densenet import densenet_cifar
from benchmarks.engine.report import table
from prunetune import PruneResult, prune
from prunetune.data import datasets
from prunetune.engine import DependencyGraph, step_time
from prunetune.errors import InputError
from prunetune.plugins import make_scorer, scorers
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line names, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorers", description=__doc__)
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the networks whose names match")
    parser.add_argument(
        "--scorer", nargs="+", default=scorers.names(), metavar="NAME", help="parts may follow: snip+sum"
    )
    parser.add_argument("--batch", type=int, default=128, help="images of a training step (128)")
    parser.add_argument("--train-steps", type=int, default=20, help="for scorers that need a trained network (20)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which the steps of each proxy are timed (3)")
    lines.add_arguments(parser, resume=False)
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    lines.earlier(options, parser)
    rows: list[dict[str, Any]] = []
    shared = {"threads": torch.get_num_threads(), "batch": options.batch, "train_steps": options.train_steps, "seed": 0}
    with lines.sitting(options.json, "torchvision", "scikit-learn", **shared) as write:
        for row in measured(options):
            rows.append(row)
            print(f"{row['network']:<16} {row['scorer']:<20} {row.get('failure') or 'ok'}", file=sys.stderr, flush=True)
            write(row)
    print(table(HEADER, [[row.get(column) for column in HEADER] for row in rows], markdown=options.markdown))
    return 0


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


if __name__ == "__main__":
    raise SystemExit(main())
