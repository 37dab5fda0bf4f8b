"""Datasets by name: images, each held as one set of tensors, and kinds of texts in files.

``datasets[name].load(...)`` returns an ``ImageData``. Another package adds its own with
``datasets.register("name", Dataset(...))``. ``texts[name].load(root, seed)`` returns the
parts of a text dataset; ``JOBS`` says what is trained on which. Names are listed and checked without torch, which is
loaded for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from prunetune.registry import Registry

if TYPE_CHECKING:
    from prunetune.data._images import Augmentation, Dataset, ImageData, split_stratified
    from prunetune.data._reduced import reduced, reduced_indices
    from prunetune.data._texts import TextDataset

__all__ = [
    "JOBS",
    "Augmentation",
    "Dataset",
    "ImageData",
    "datasets",
    "reduced",
    "reduced_indices",
    "split_stratified",
    "texts",
]

datasets: Registry[Dataset] = Registry("dataset")

datasets.register_lazy("cifar10", "prunetune.data.cifar:CIFAR10_DATASET")
datasets.register_lazy("cifar100", "prunetune.data.cifar:CIFAR100_DATASET")
datasets.register_lazy("digits", "prunetune.data.digits:DIGITS")
datasets.register_lazy("fashion-mnist", "prunetune.data.fashion_mnist:FASHION_MNIST")
datasets.register_lazy("imagefolder", "prunetune.data.imagefolder:IMAGE_FOLDER")
datasets.register_lazy("tinyimagenet", "prunetune.data.tinyimagenet:TINY_IMAGENET")

texts: Registry[TextDataset] = Registry("text dataset")

texts.register_lazy("labelled-text", "prunetune.data._texts:LABELLED")
texts.register_lazy("plain-text", "prunetune.data._texts:PLAIN")

JOBS: Final = {"labelled-text": "text-classification", "plain-text": "causal-lm"}
"""What the built-in training trains on a text dataset; on all others it is image-classification."""


def __getattr__(name: str) -> Any:
    """What needs torch, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "_reduced" if name.startswith("reduced") else "_images"
    return getattr(importlib.import_module(f"prunetune.data.{home}"), name)
