"""Image datasets by name, each held as one set of tensors.

``datasets[name].load(...)`` returns an ``ImageData``. Another package adds its own with
``datasets.register("name", Dataset(...))``. Names are listed and checked without torch, which is loaded for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prunetune.registry import Registry

if TYPE_CHECKING:
    from prunetune.data._images import Augmentation, Dataset, ImageData, split_stratified
    from prunetune.data._reduced import reduced

__all__ = ["Augmentation", "Dataset", "ImageData", "datasets", "reduced", "split_stratified"]

datasets: Registry[Dataset] = Registry("dataset")

datasets.register_lazy("cifar10", "prunetune.data.cifar:CIFAR10_DATASET")
datasets.register_lazy("cifar100", "prunetune.data.cifar:CIFAR100_DATASET")
datasets.register_lazy("digits", "prunetune.data.digits:DIGITS")
datasets.register_lazy("fashion-mnist", "prunetune.data.fashion_mnist:FASHION_MNIST")
datasets.register_lazy("imagefolder", "prunetune.data.imagefolder:IMAGE_FOLDER")
datasets.register_lazy("tinyimagenet", "prunetune.data.tinyimagenet:TINY_IMAGENET")


def __getattr__(name: str) -> Any:
    """What needs torch, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "_reduced" if name == "reduced" else "_images"
    return getattr(importlib.import_module(f"prunetune.data.{home}"), name)
