"""What `benchmarks.mup` measures: networks, how they are trained, and what is looked at."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measured.runs import factors
from benchmarks.mup.cases import MEASURED, MUP, RULES, SCALES, Scale, Task
from prunetune import PruningPlan, prune
from prunetune._utils.caller import seed_all
from prunetune.data import ImageData, datasets
from prunetune.engine import bypass, fresh_proxy, residual_blocks
from prunetune.pruning.fit import depth_order
from prunetune.training.execution import AS_MEASURED
from prunetune.training.image_classification import Hyperparameters, Training, accuracy
from prunetune.training.schedules import cosine
from prunetune.transfer.groups import proxy_groups
from prunetune.transfer.norms import normed

Row: TypeAlias = dict[str, Any]
STEPS: Final = 4
PROBE: Final = 64
"""Images of the batch on which a coordinate check trains and looks."""


@lru_cache(maxsize=1)
def data_of(dataset: str, pixels: int, images: int, val: int) -> ImageData:
    """The first training and validation images of a dataset."""
    data = datasets[dataset].load(pixels, None, 0)
    return replace(
        data,
        train_images=data.train_images[:images], train_labels=data.train_labels[:images],
        val_images=data.val_images[:val], val_labels=data.val_labels[:val],
    )  # fmt: skip


def proxy(scale: Scale, task: Task, job: Mapping[str, Any]) -> tuple[nn.Module, torch.optim.Optimizer, ImageData]:
    """A fresh network of the job's width, its optimizer by the job's rule, and the data; all random is seeded."""
    torch.set_num_threads(1)
    data = data_of(scale.dataset, scale.pixels, scale.images, scale.val)
    seed_all(1000 + job["seed"])

    def build() -> nn.Module:
        return task.build(data.num_classes, data.channels)

    plan = PruningPlan({}, {})
    if job["width"] < 1:
        with torch.random.fork_rng():
            examples = data.normalize(data.train_images[:8])
            plan = cut(build(), examples, task, job["width"])
    if job["rule"] == MEASURED and job["width"] < 1:
        by = _measured(scale, task, build, plan, job["width"])
        model = fresh_proxy(build, plan)
        groups = [
            {"params": [each], "lr": job["rate"] * by[name], "weight_decay": task.weight_decay / by[name]}
            for name, each in model.named_parameters()
        ]
    else:
        model = fresh_proxy(build, plan)
        ask = proxy_groups(plan, MUP if job["rule"] == MEASURED else job["rule"], "redraw")
        groups = ask(model, lr=job["rate"], weight_decay=task.weight_decay, optimizer=task.optimizer)
    if task.optimizer == "adam":
        return model, torch.optim.AdamW(groups, fused=True), data
    return model, torch.optim.SGD(groups, momentum=0.9, fused=True), data


_FACTORS: Final[dict[tuple[str, float], dict[str, float]]] = {}


def _measured(
    scale: Scale, task: Task, build: Callable[[], nn.Module], plan: PruningPlan, width: float
) -> dict[str, float]:
    """The measured factors, found out once a process, at the rate of the coordinate check."""
    if (task.name, width) not in _FACTORS:
        data = data_of(scale.dataset, scale.pixels, scale.images, scale.val)

        def batch(source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            chosen = torch.randint(len(data.train_labels), (scale.batch,), generator=source)
            return data.normalize(data.train_images[chosen]), data.train_labels[chosen]

        def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
            adam = task.optimizer == "adam"
            return torch.optim.AdamW(groups, fused=True) if adam else torch.optim.SGD(groups, momentum=0.9, fused=True)

        with torch.random.fork_rng():
            _FACTORS[task.name, width] = factors(
                build, lambda: fresh_proxy(build, plan), batch, optimizer, task.reference
            )
    return _FACTORS[task.name, width]


def cut(base: nn.Module, examples: torch.Tensor, task: Task, share: float) -> PruningPlan:
    """The plan that leaves this share of every layer's channels, or of the residual blocks of every stage."""
    if task.depths:
        order = depth_order(residual_blocks(base, examples))
        gone = round((1 - share) * len(order))
        return replace(bypass(order[:gone]), depth=1 - gone / len(order))
    return prune(base, examples, scorer="uniform", ratio=share).with_norms(normed(base, examples)).plan


def coordinates(scale: Scale, task: Task, job: Mapping[str, Any]) -> Row:
    """By layer, after 0 to ``STEPS`` steps on one batch: the outputs' mean absolute value, and how far they moved.

    The coordinate check of Tensor Programs V, appendix D.1. ``moved`` begins with 0, for no step.
    """
    model, optimizer, data = proxy(scale, task, job)
    images, labels = data.normalize(data.train_images[:PROBE]), data.train_labels[:PROBE]
    outputs: dict[str, list[torch.Tensor]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            kept = outputs.setdefault(name, [])
            layer.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out.detach().clone()))
    model.train()
    for number in range(STEPS + 1):
        loss = F.cross_entropy(model(images), labels)
        if number < STEPS:
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return {
        "size": {name: [_mean(out) for out in seen] for name, seen in outputs.items()},
        "moved": {name: [_mean(out - seen[0]) for out in seen] for name, seen in outputs.items()},
    }


def _mean(values: torch.Tensor) -> float:
    return float(f"{values.abs().mean().item():.6g}")


def rate(scale: Scale, task: Task, job: Mapping[str, Any]) -> Row:
    """A whole training: accuracy and cross-entropy on the validation images; None for what diverged."""
    model, optimizer, data = proxy(scale, task, job)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    generator = torch.Generator().manual_seed(job["seed"])
    with AS_MEASURED.prepared(model, data.device) as forward:
        settings = Hyperparameters(batch_size=scale.batch)
        training = Training(data, forward, optimizer, settings, cosine, generator)
        for epoch in range(task.epochs):
            model.train()
            if not math.isfinite(training.epoch((epoch, task.epochs))):
                return {"accuracy": None, "loss": None}
    loss = _loss(model, data)
    if not math.isfinite(loss):
        return {"accuracy": None, "loss": None}
    return {"accuracy": round(accuracy(model, data, "val"), 5), "loss": round(loss, 5)}


@torch.no_grad()
def _loss(model: nn.Module, data: ImageData) -> float:
    model.eval()
    return F.cross_entropy(model(data.normalize(data.val_images)), data.val_labels).item()


PARTS: Final = {"rates": rate, "coordinates": coordinates}
KEY: Final = ("part", "task", "rule", "width", "seed", "rate")


def jobs(scale: Scale) -> Iterator[Row]:
    """Every measurement, as the start of its row; on the full network both rules are the same, and it is run once."""
    for part, seeds in (("coordinates", scale.coordinate_seeds), ("rates", scale.seeds)):
        for task in scale.tasks:
            for width in task.sizes(scale):
                for rule in dict.fromkeys(map(task.played_as, RULES)) if width < 1 else (MUP,):
                    for each in task.rates if part == "rates" else () if task.step is None else (task.step,):
                        for seed in range(seeds):
                            yield dict(zip(KEY, (part, task.name, rule, width, seed, each), strict=True))


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row is of."""
    return tuple(row[name] for name in KEY)


def measured(scale: str, job: Row) -> Row:
    """The whole row of a job."""
    task = next(task for task in SCALES[scale].tasks if task.name == job["task"])
    begun = time.process_time()
    found = PARTS[job["part"]](SCALES[scale], task, job)
    return {**job, **found, "cpu_seconds": round(time.process_time() - begun, 3)}
