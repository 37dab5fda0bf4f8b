"""One training of one configuration in one way."""

from __future__ import annotations

import csv
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from benchmarks.common.images import network
from benchmarks.common.reports import PlainReport, train
from benchmarks.transfer.cases import Arm, Base, Scale, arms, configurations
from prunetune import PruningPlan, prune
from prunetune._utils.caller import seed_all
from prunetune.data import ImageData, datasets
from prunetune.engine import fresh_proxy
from prunetune.training import ImageClassification
from prunetune.training.image_classification import accuracy
from prunetune.training.schedules import cosine
from prunetune.transfer.groups import proxy_groups
from prunetune.transfer.norms import normed

Row: TypeAlias = dict[str, Any]
KEY: Final = ("base", "arm", "configuration", "seed")
TRUTH_SEEDS: Final = (1, 2)
"""Of the full network's trainings that say how good a configuration is; seed 0 is the one that may choose."""


def run_one(base: Base, arm: Arm, scale: Scale, configuration: int, seed: int) -> Row:
    """Train one configuration in one way; validation and test accuracy, and processor seconds."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    params = configurations(scale.configurations)[configuration]
    data = part(base, arm.data)
    plan = plan_of(base, arm)
    report = PlainReport(
        1000 * seed + configuration,
        arm.epochs or base.epochs,
        stop_after=arm.stop_after,
        proxy=None if plan is None else proxy_groups(plan, arm.transfer, "redraw"),
    )
    params = {**params, "batch_size": min(params["batch_size"], len(data.train_labels) // 2)}

    def build() -> nn.Module:
        return network(arm.model or base.model, data)

    start = time.process_time()
    seed_all(report.seed)
    model = build() if plan is None else fresh_proxy(build, plan)
    score = train(ImageClassification(data, schedule=cosine), model, params, report)
    seconds = time.process_time() - start
    test = accuracy(model, data, "test") if arm.kind == "base" and math.isfinite(score) else math.nan
    values = {"val": _or_zero(score), "test": _or_zero(test), "cpu_seconds": round(seconds, 3)}
    return dict(zip(KEY, (base.model, arm.name, configuration, seed), strict=True)) | values


def _or_zero(value: float) -> float:
    """What diverges is worse than anything else."""
    return round(value, 5) if math.isfinite(value) else 0.0


@lru_cache(maxsize=8)
def part(base: Base, share: float) -> ImageData:
    """The dataset, with that share of its training images, the first of each class."""
    data = datasets[base.dataset].load(base.pixels, None, 0)
    chosen = torch.arange(min(base.images, len(data.train_labels)))
    if share < 1.0:
        labels = data.train_labels[chosen]
        of = [torch.nonzero(labels == k).flatten() for k in range(data.num_classes)]
        chosen = torch.cat([rows[: max(1, round(share * len(rows)))] for rows in of])
    return replace(
        data,
        train_images=data.train_images[chosen], train_labels=data.train_labels[chosen],
        val_images=data.val_images[:2000], val_labels=data.val_labels[:2000],
    )  # fmt: skip


@lru_cache(maxsize=64)
def _plan(base: Base, asked: tuple[tuple[str, Any], ...]) -> PruningPlan:
    data = part(base, 1.0)
    seed_all(0)
    full = network(base.model, data)
    images = data.normalize(data.train_images[:64])
    options = dict(asked)
    if isinstance(options.get("flops"), str):
        quarter = prune(full, images, scorer="uniform", ratio=0.25).cost
        options["flops"] = quarter.proxy.flops / quarter.base.flops
    batches = [
        (data.normalize(data.train_images[a : a + 64]), data.train_labels[a : a + 64]) for a in range(0, 640, 64)
    ]
    plan = prune(full, images, data=batches, **options).plan
    return replace(plan, normed=normed(full, images[:8]))


def plan_of(base: Base, arm: Arm) -> PruningPlan | None:
    """What an arm cuts."""
    return None if arm.prune is None else _plan(base, tuple(sorted(arm.prune.items())))


def jobs(scale: Scale) -> Iterator[tuple[tuple[Any, ...], tuple[Base, Arm, Scale, int, int]]]:
    """Key and arguments of every training."""
    for base in scale.bases:
        for arm in arms(base, scale):
            for seed in (0, *TRUTH_SEEDS) if arm.kind == "base" else (0,):
                for configuration in range(scale.configurations):
                    yield (base.model, arm.name, configuration, seed), (base, arm, scale, configuration, seed)


def key(row: Row) -> tuple[Any, ...]:
    return (row["base"], row["arm"], int(row["configuration"]), int(row["seed"]))


def read(path: Path) -> list[Row]:
    """The trainings in a file that ``--rows`` has written."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
