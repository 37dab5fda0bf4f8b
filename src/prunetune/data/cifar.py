"""CIFAR-10 and CIFAR-100: 60,000 colour pictures of 32 x 32 pixels, from the published Python version.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). The files are pickles, which could run any
code, so each is verified by its MD5 sum before it is unpickled.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Final

import torch

from prunetune.data._files import Download, Published
from prunetune.data._images import Dataset, ImageData, Load, build_image_data, resize, split_stratified

CIFAR10: Final = Published(
    title="CIFAR-10",
    sums={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    folders=(Path("data"), Path("data/cifar10")),
    subfolders=("cifar-10-batches-py",),
    hint=", from cifar-10-python.tar.gz, or let them be downloaded (data.download = true, or --download)",
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
        ),
    ),
)
CIFAR100: Final = Published(
    title="CIFAR-100",
    sums={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    folders=(Path("data/cifar-100-python"), Path("data/cifar100")),
    subfolders=("cifar-100-python",),
    hint=", from cifar-100-python.tar.gz, or let them be downloaded (data.download = true, or --download)",
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
)
VAL_SHARE: Final = 10  # one in ten of the training images: 45,000 + 5,000, as in He et al. (2015), section 4.2


def read_batch(files: Published, folder: Path, name: str, labels_key: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The images (N, 3, 32, 32), uint8, and labels (N,), int64, of one file. Raises InputError if it was changed."""
    content = files.read(folder, name)  # its sum is verified before anything is unpickled
    batch = pickle.loads(content, encoding="latin1")
    return torch.from_numpy(batch["data"].reshape(-1, 3, 32, 32)), torch.tensor(batch[labels_key], dtype=torch.int64)


def loader(name: str, files: Published, labels_key: str, classes: int) -> Load:
    """A function that loads CIFAR-10 or CIFAR-100."""

    def load(image_size: int | None = None, root: Path | None = None, seed: int = 0) -> ImageData:
        """45,000 images to train, 5,000 to validate, the published 10,000 to test. Raises InputError."""
        folder = files.find(root)
        batches = {each: read_batch(files, folder, each, labels_key) for each in files.sums}
        test_images, test_labels = batches.pop(next(each for each in batches if each.startswith("test")))
        images, labels = (torch.cat(parts) for parts in zip(*batches.values(), strict=True))
        images, test_images = resize(images, image_size), resize(test_images, image_size)
        val_size = len(labels) // VAL_SHARE
        train, val = split_stratified(labels, (len(labels) - val_size, val_size), seed)
        return build_image_data(
            name,
            train=(images[train], labels[train]),
            val=(images[val], labels[val]),
            test=(test_images, test_labels),
            num_classes=classes,
            flip=True,
        )

    return load


CIFAR10_DATASET: Final = Dataset(
    load=loader("cifar10", CIFAR10, "labels", 10),
    image_size=32,
    num_classes=10,
    channels=3,
    reads_files=True,
    summary="60,000 pictures of things and animals in 10 classes, colour, 32 x 32; can be downloaded",
    fetch=CIFAR10.fetch,
)
CIFAR100_DATASET: Final = Dataset(
    load=loader("cifar100", CIFAR100, "fine_labels", 100),
    image_size=32,
    num_classes=100,
    channels=3,
    reads_files=True,
    summary="60,000 pictures of things and animals in 100 classes, colour, 32 x 32; can be downloaded",
    fetch=CIFAR100.fetch,
)
