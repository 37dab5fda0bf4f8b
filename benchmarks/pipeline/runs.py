"""Images a second of every way to make batches, under every loop."""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.common.command import provenance
from benchmarks.common.images import RECIPES, pictures
from benchmarks.pipeline.rivals import LOOPS, Batch, Epoch, LoadersBatches, Pictures, steps, usual_loop, usual_transform
from prunetune import prune
from prunetune.data import ImageData
from prunetune.training.augment import augment
from prunetune.training.execution import Execution
from prunetune.training.image_classification import Hyperparameters, Training
from prunetune.training.schedules import step as constant_at_first
from prunetune.zoo import models

OURS: Final = "ours, on the device"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the run found."""
    torch.manual_seed(options.seed)
    size, recipe = RECIPES[options.recipe]
    data = pictures(options.images, size, recipe, options.seed).to(options.device)
    proxy = prune(models[options.model](10, 3), data.normalize(data.train_images[:2]), scorer="synflow").model
    seconds = measure(epochs(data, proxy, options), options.rounds, options.device)
    images = options.images // options.batch * options.batch
    rows = [
        {"pipeline": name, **{loop: images / statistics.median(seconds[name, loop]) for loop in LOOPS}}
        for name in dict.fromkeys(name for name, _ in seconds)
    ]
    ours = rows[0]
    return {
        "benchmark": "pipeline",
        "model": options.model,
        "settings": {name: value for name, value in vars(options).items() if name not in ("json", "markdown", "model")},
        "seeds": [options.seed],
        **provenance(options.device, load=True, threads=options.threads),
        "images_per_second": rows,
        "times_faster": {
            row["pipeline"]: {"batches": ours[LOOPS[0]] / row[LOOPS[0]], "training": ours[LOOPS[2]] / row[LOOPS[1]]}
            for row in rows[1:]
        },
    }


@dataclass(frozen=True)
class OurBatches:
    """An epoch of normalised batches and labels, made on the device."""

    data: ImageData
    batch: int
    generator: torch.Generator

    def __iter__(self) -> Iterator[Batch]:
        data = self.data
        order = torch.randperm(len(data.train_labels), generator=self.generator, device=data.device)
        for part in torch.split(order, self.batch)[: len(order) // self.batch]:
            images = augment(data.train_images[part], data.augmentation, self.generator)
            yield data.normalize(images), data.train_labels[part]


def epochs(data: ImageData, proxy: nn.Module, options: argparse.Namespace) -> dict[tuple[str, str], Epoch]:
    """For every way to make batches, and every loop under it, an epoch."""
    generator = torch.Generator(options.device).manual_seed(options.seed)
    sources: dict[str, Iterable[Batch]] = {OURS: OurBatches(data, options.batch, generator)}
    for workers in options.workers:
        loader = DataLoader(
            Pictures(data, usual_transform(data)),
            batch_size=options.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=data.device.type == "cuda",
        )
        sources[f"DataLoader, {workers} workers"] = LoadersBatches(loader, data.device)
    found: dict[tuple[str, str], Epoch] = {}
    for name, source in sources.items():
        found[name, "batches alone"] = partial(exhaust, source)
        found[name, "usual loop"] = usual_loop(proxy, source, data.device)
        found[name, "our loop"] = our_loop(proxy, source, data, generator)
    return found


def exhaust(batches: Iterable[Batch]) -> None:
    for _ in batches:
        pass


def our_loop(proxy: nn.Module, batches: Iterable[Batch], data: ImageData, generator: torch.Generator) -> Epoch:
    """The built-in job's own epoch on our batches; what it does for the network on those of a DataLoader."""
    model, execution = copy.deepcopy(proxy).to(data.device).train(), Execution()
    model.to(memory_format=torch.channels_last)
    forward = execution.forward(model, data.device)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    if not isinstance(batches, OurBatches):
        return partial(steps, forward, sgd, batches)
    for group in sgd.param_groups:
        group["initial_lr"] = group["lr"]
    settings = Hyperparameters(batch_size=batches.batch)
    training = Training(data, forward, sgd, settings, constant_at_first, generator)
    return partial(training.epoch, (0, 2))


def measure(each: Mapping[tuple[str, str], Epoch], rounds: int, device: str) -> dict[tuple[str, str], list[float]]:
    """Wall seconds of every epoch, in turns; the first round, which starts workers and warms up, does not count."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in each}
    for number in range(rounds + 1):
        for key, epoch in each.items():
            _wait(device)
            start = time.perf_counter()
            epoch()
            _wait(device)
            if number:
                seconds[key].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
