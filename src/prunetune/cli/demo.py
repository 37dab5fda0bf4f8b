"""The configuration of ``prunetune demo``."""

from __future__ import annotations

from pathlib import Path

from prunetune.cli.config import parse_config
from prunetune.cli.tables import Config


def demo_config(folder: Path) -> Config:
    """VGG-16 on digits of 16 x 16 pixels, sized to end within three minutes on two CPU cores.

    The search is the default ladder for two and a half full trainings, which is a tenth of the customary search and
    keeps the demo short. The space is the paper's with batches small enough for 1,079 training images, so
    that a third of the epochs has enough training steps for the first rung; the schedule is the cosine, which suits few
    epochs.
    """
    return parse_config(
        {
            "model": {"name": "vgg16-bn"},
            "data": {"name": "digits", "image_size": 16},
            "ladder": {"budget": 2.5},
            "search": {
                "epochs": 6,
                "seed": 0,
                "space": {
                    "learning_rate": {"low": 1e-4, "high": 0.2, "log": True},
                    "weight_decay": {"low": 1e-5, "high": 2e-2, "log": True},
                    "batch_size": {"low": 32, "high": 128, "log": True},
                },
            },
            "train": {"schedule": "cosine"},
            "run": {"folder": str(folder), "device": "cpu"},
        }
    )
