"""Image datasets by name, each held as one set of tensors.

``datasets[name].load(...)`` returns an ``ImageData``. Another package adds its own with
``datasets.register("name", Dataset(...))``.
"""

from __future__ import annotations

from prunetune.data._images import Augmentation, Dataset, ImageData, split_stratified
from prunetune.data._reduced import reduced
from prunetune.data.cifar import CIFAR10_DATASET, CIFAR100_DATASET
from prunetune.data.digits import DIGITS
from prunetune.data.fashion_mnist import FASHION_MNIST
from prunetune.data.imagefolder import IMAGE_FOLDER
from prunetune.data.tinyimagenet import TINY_IMAGENET
from prunetune.registry import Registry

__all__ = ["Augmentation", "Dataset", "ImageData", "datasets", "reduced", "split_stratified"]

datasets: Registry[Dataset] = Registry("dataset")

datasets.register("cifar10", CIFAR10_DATASET)
datasets.register("cifar100", CIFAR100_DATASET)
datasets.register("digits", DIGITS)
datasets.register("fashion-mnist", FASHION_MNIST)
datasets.register("imagefolder", IMAGE_FOLDER)
datasets.register("tinyimagenet", TINY_IMAGENET)
