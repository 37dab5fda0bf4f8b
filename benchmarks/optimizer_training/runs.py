"""Small networks trained at every point of a grid of hyperparameters, many as one tensor."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common.curves import DIVERGED, NAMES, UNITS, Grid
from prunetune.data import datasets

EPOCHS = 27
TOGETHER = 90
"""Networks trained as one tensor: their weights, gradients and momenta should stay in the processor's cache."""

Split: TypeAlias = tuple[Tensor, Tensor]
"""Images as vectors (N, pixels), labels (N,)."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what."""

    dataset: str
    image_size: int
    train: int
    validate: int
    hidden: tuple[int, ...]
    seeds: int


RECIPES = {
    "digits": Recipe("digits", 8, train=1079, validate=718, hidden=(32, 32), seeds=3),
    "fashion-mnist": Recipe("fashion-mnist", 14, train=2000, validate=4000, hidden=(32, 32), seeds=2),
}


def encode(accuracy: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Shares as 1/50,000ths, NaN as `DIVERGED`."""
    return np.where(np.isnan(accuracy), DIVERGED, np.round(np.nan_to_num(accuracy) * UNITS)).astype(np.uint16)


def train_grid(recipe: Recipe, grid: Grid, epochs: int = EPOCHS) -> NDArray[np.float64]:
    """Validation accuracy (*grid, epochs), the mean over the seeds; NaN once the loss of one of them is not finite."""
    torch.set_flush_denormal(True)
    train, validate = load(recipe)
    seeds: list[Tensor] = []
    for seed in range(recipe.seeds):
        parts = []
        for size in grid["batch_size"]:
            others = [grid[name] for name in NAMES if name != "batch_size"]
            points = torch.tensor(list(product(*others)), dtype=torch.float32)
            chunks = [
                train_together(chunk, int(size), train, validate, recipe, seed, epochs)
                for chunk in torch.split(points, TOGETHER)
            ]
            parts.append(torch.cat(chunks).reshape(*(len(each) for each in others), epochs))
            print(f"{recipe.dataset} seed {seed} batch size {size}", file=sys.stderr, flush=True)
        seeds.append(torch.stack(parts, dim=NAMES.index("batch_size")))
    return torch.stack(seeds).mean(dim=0).to(torch.float64).numpy()


def load(recipe: Recipe) -> tuple[Split, Split]:
    """Training and validation images, normalized, as vectors."""
    data = datasets[recipe.dataset].load(recipe.image_size, None, 0)
    held_out = (torch.cat([data.val_images, data.test_images]), torch.cat([data.val_labels, data.test_labels]))

    def part(images: Tensor, labels: Tensor, count: int) -> Split:
        return data.normalize(images[:count]).flatten(1), labels[:count]

    return part(data.train_images, data.train_labels, recipe.train), part(*held_out, recipe.validate)


def train_together(
    points: Tensor, batch_size: int, train: Split, validate: Split, recipe: Recipe, seed: int, epochs: int
) -> Tensor:
    """Validation accuracy (C, epochs) of the networks with hyperparameters `points` (C, 4), in the order of `NAMES`."""
    images, labels = train
    count = len(points)
    lr, decay, momentum, weight_decay = (column[:, None, None] for column in points.unbind(1))
    generator = torch.Generator().manual_seed(seed)
    layers = [each.expand(count, -1, -1).clone().requires_grad_() for each in fresh(images.shape[1], recipe, generator)]
    velocities = [torch.zeros_like(layer) for layer in layers]
    alive, curve = torch.ones(count, dtype=torch.bool), []
    batches = len(labels) // batch_size
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        loss_sum = torch.zeros(count)
        for number, batch in enumerate(torch.split(order, batch_size)[:batches]):
            progress = (epoch + number / batches) / epochs
            rates = lr * decay ** ((progress >= 0.5) + (progress >= 0.75))  # as `jobs.schedules.step`
            losses = loss_of(forward(layers, images[batch]), labels[batch])
            gradients = torch.autograd.grad(losses.sum(), layers)
            loss_sum += losses.detach()
            with torch.no_grad():
                for layer, velocity, gradient in zip(layers, velocities, gradients, strict=True):
                    velocity.mul_(momentum).add_(gradient).addcmul_(layer, weight_decay)
                    layer.addcmul_(velocity, rates, value=-1)
        alive &= loss_sum.isfinite()
        curve.append(torch.where(alive, accuracy(layers, validate), torch.nan))
    return torch.stack(curve, dim=1)


def fresh(pixels: int, recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
    """Weights (1, in, out) and biases (1, 1, out) of each layer."""
    widths = (pixels, *recipe.hidden, datasets[recipe.dataset].num_classes)
    for inputs, outputs in pairwise(widths):
        bound = (6 / inputs) ** 0.5
        yield (torch.rand((1, inputs, outputs), generator=generator) * 2 - 1) * bound
        yield torch.zeros(1, 1, outputs)


def forward(layers: Sequence[Tensor], images: Tensor) -> Tensor:
    """Logits (C, B, classes) of images (B, pixels) by the networks with these weights."""
    x = images.expand(len(layers[0]), -1, -1)
    for place in range(0, len(layers), 2):
        x = torch.baddbmm(layers[place + 1], x.relu() if place else x, layers[place])
    return x


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (C,) of each network, the mean over the batch."""
    each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return each.view(len(logits), -1).mean(dim=1)


@torch.no_grad()
def accuracy(layers: Sequence[Tensor], split: Split) -> Tensor:
    """Share of images (C,) that each network gets right."""
    images, labels = split
    parts = zip(torch.split(images, 500), torch.split(labels, 500), strict=True)
    right = [(forward(layers, some).argmax(dim=2) == answers).sum(dim=1) for some, answers in parts]
    return torch.stack(right).sum(dim=0) / len(labels)
