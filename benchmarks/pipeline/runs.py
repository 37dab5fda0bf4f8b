"""Images a second: our batches on the device beside the usual DataLoader with torchvision's transforms.

Same pictures, augmentation, network and run; three ways to make batches, each alone and under two training loops. See
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.engine.report import table
from prunetune import prune
from prunetune.data import Augmentation, ImageData
from prunetune.data._images import build_image_data
from prunetune.record.provenance import machine, versions
from prunetune.training.augment import augment
from prunetune.training.execution import Execution
from prunetune.training.image_classification import Hyperparameters, Training
from prunetune.training.schedules import step as constant_at_first
from prunetune.zoo import models

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
Epoch: TypeAlias = Callable[[], object]
"""Goes through all pictures once."""

RECIPES: Final[Mapping[str, tuple[int, Augmentation]]] = {  # pixels, and the paper's augmentation
    "cifar": (32, Augmentation(flip=True, padding=4)),
    "tinyimagenet": (64, Augmentation(flip=True, rotation=15, padding=3)),
}
OURS: Final = "ours, on the device"
LOOPS: Final = ("batches alone", "usual loop", "our loop")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--model", default="resnet56", help="its proxy at p = 85, floor 0.15, is trained")
    parser.add_argument("--recipe", choices=RECIPES, default="cifar")
    parser.add_argument("--images", type=int, default=1280, metavar="N", help="pictures an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoaders")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each, in turns, after one that warms up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in this process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    result = run(options)
    print(report(result, markdown=options.markdown))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


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
        "machine": {**machine(proxy.to(options.device)), "threads": options.threads, "load": os.getloadavg()[0]},
        "versions": versions(),
        "images_per_second": rows,
        "times_faster": {
            row["pipeline"]: {"batches": ours[LOOPS[0]] / row[LOOPS[0]], "training": ours[LOOPS[2]] / row[LOOPS[1]]}
            for row in rows[1:]
        },
    }


def pictures(count: int, size: int, recipe: Augmentation, seed: int) -> ImageData:
    """Random pictures: no time depends on what is on them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    part = (images, torch.randint(10, (count,), generator=generator))
    data = build_image_data("random", train=part, val=part, test=part, num_classes=10, flip=recipe.flip)
    return replace(data, augmentation=recipe)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """As torchvision does it for small pictures: an array of all, one of which becomes a PIL image at a time."""

    def __init__(self, data: ImageData, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images: NDArray[np.uint8] = data.train_images.permute(0, 2, 3, 1).cpu().contiguous().numpy()
        self.labels: list[int] = data.train_labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_transform(data: ImageData) -> Callable[[Image.Image], torch.Tensor]:
    """What everybody writes, for the same augmentation in the same order."""
    recipe = data.augmentation
    parts: list[Any] = [transforms.RandomHorizontalFlip()] if recipe.flip else []
    if recipe.rotation:
        parts.append(transforms.RandomRotation(recipe.rotation))
    if recipe.padding:
        parts.append(transforms.RandomCrop(data.image_size, padding=recipe.padding))
    return transforms.Compose(  # type: ignore[no-any-return]
        [*parts, transforms.ToTensor(), transforms.Normalize(data.mean.cpu(), data.std.cpu())]
    )


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


@dataclass(frozen=True)
class LoadersBatches:
    """An epoch of the batches of a DataLoader, on the device."""

    loader: DataLoader[Batch]
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


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


def usual_loop(proxy: nn.Module, batches: Iterable[Batch], device: torch.device) -> Epoch:
    """Plain PyTorch: float32, torch's own memory layout, SGD as it comes."""
    model = copy.deepcopy(proxy).to(device).train()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return partial(steps, model, sgd, batches)


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


def steps(
    forward: Callable[[torch.Tensor], torch.Tensor], sgd: torch.optim.Optimizer, batches: Iterable[Batch]
) -> None:
    for images, labels in batches:
        sgd.zero_grad()
        torch.autograd.backward(F.cross_entropy(forward(images), labels))
        sgd.step()


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


def report(result: Mapping[str, Any], *, markdown: bool) -> str:
    """The table of images a second, and how many times faster ours is."""
    body = [[row["pipeline"], *(row[loop] for loop in LOOPS)] for row in result["images_per_second"]]
    lines = [table(["images/s", *LOOPS], body, markdown=markdown), ""]
    lines += [
        f"ours beside {name}: batches {faster['batches']:.1f} times as fast, "
        f"our loop {faster['training']:.2f} times as fast as the usual"
        for name, faster in result["times_faster"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
