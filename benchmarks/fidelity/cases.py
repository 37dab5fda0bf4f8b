"""Configurations, and the ways to train each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FACTOR = 3
"""Hyperband's: one in so many goes on."""


@dataclass(frozen=True)
class Scale:
    """How much is trained."""

    dataset: str
    image_size: int
    train: int
    validate: int
    configurations: int
    epochs: int


SCALES = {
    "resnet8": {
        "smoke": Scale("digits", 8, train=200, validate=64, configurations=4, epochs=3),
        "cpu": Scale("fashion-mnist", 14, train=1000, validate=2000, configurations=27, epochs=9),
        "full": Scale("fashion-mnist", 28, train=50_000, validate=10_000, configurations=81, epochs=27),
    },
    "perceptron": {
        "smoke": Scale("digits", 8, train=200, validate=64, configurations=9, epochs=3),
        "cpu": Scale("fashion-mnist", 14, train=2000, validate=4000, configurations=243, epochs=27),
        "full": Scale("fashion-mnist", 28, train=50_000, validate=10_000, configurations=729, epochs=81),
    },
}
"""Of a ResNet-8 by the built-in loop, cosine schedule; and of two hidden layers, many at once, step schedule."""


@dataclass(frozen=True)
class Way:
    """A way to train: shares of the full training's resolution and data, its epochs, and a seed."""

    name: str
    seed: int
    epochs: int
    resolution: float = 1.0
    data: float = 1.0


def ways(network: str, scale: Scale, seed: int = 0) -> list[Way]:
    """All that are compared, the full trainings first. Images of another size would take another perceptron."""
    one, other = 2 * seed, 2 * seed + 1
    epochs = scale.epochs
    cheap = [Way(f"{rung} of {epochs} epochs, re-annealed", one, rung) for rung in rungs(epochs)[:-1]]
    return [
        Way("full", one, epochs),
        Way("full, other seed", other, epochs),
        *cheap,
        *([Way("half the resolution", one, epochs, resolution=0.5)] if network == "resnet8" else []),
        Way("a third of the data", one, epochs, data=1 / FACTOR),
    ]


def rungs(epochs: int) -> list[int]:
    """1, 3, 9, … and the last epoch."""
    return [*(FACTOR**k for k in range(epochs) if FACTOR**k < epochs), epochs]


def configurations(count: int, seed: int) -> list[dict[str, Any]]:
    """Random ones, independent."""
    random = np.random.default_rng(seed)
    return [
        {
            "learning_rate": float(10 ** random.uniform(-3, 0)),
            "weight_decay": float(10 ** random.uniform(-5, -2)),
            "momentum": float(random.uniform(0.5, 0.99)),
            "batch_size": int(random.choice([32, 64])),
            "lr_decay": float(random.uniform(0.1, 1.0)),
        }
        for _ in range(count)
    ]
