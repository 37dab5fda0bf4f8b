"""Image datasets by name, each held as one set of tensors.

``datasets[name].load(...)`` returns an ``ImageData``. Another package adds its own with
``datasets.register("name", Dataset(...))``.
"""

from __future__ import annotations

from prunetune.data._images import Dataset, ImageData, split_stratified
from prunetune.data.digits import DIGITS
from prunetune.data.fashion_mnist import FASHION_MNIST
from prunetune.registry import Registry

__all__ = ["Dataset", "ImageData", "datasets", "split_stratified"]

datasets: Registry[Dataset] = Registry("dataset")

datasets.register("digits", DIGITS)
datasets.register("fashion-mnist", FASHION_MNIST)
