"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels, read from the four published files.

Xiao, Rasul & Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms" (2017).
The IDX format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the values.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import torch

from prunetune.data._files import Download, Published
from prunetune.data._images import Dataset, ImageData, build_image_data, resize, split_stratified

SERVER: Final = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES: Final = Published(
    title="Fashion-MNIST",
    sums={  # of the contents: Debian's files are compressed anew
        "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    # Where Debian's and Ubuntu's package dataset-fashion-mnist puts them, and where a user would.
    folders=(Path("/usr/share/datasets/fashion-mnist"), Path("data/fashion-mnist")),
    subfolders=("FashionMNIST/raw",),
    hint=", or install the Debian package dataset-fashion-mnist, "
    "or let them be downloaded (data.download = true, or --download)",
    downloads=tuple(
        Download(SERVER + name, name, md5)
        for name, md5 in (
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
)
VAL: Final = 10_000


def read_idx(files: Published, folder: Path, name: str) -> torch.Tensor:
    """The uint8 tensor in one file. Raises InputError if it is not the published one, and so in no other format."""
    content = files.read(folder, name)
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return torch.frombuffer(bytearray(content[4 + 4 * dimensions :]), dtype=torch.uint8).reshape(shape)


def load_fashion_mnist(
    image_size: int | None = None, root: Path | None = None, seed: int = 0, *, files: Published = FILES
) -> ImageData:
    """Fashion-MNIST, scaled to ``image_size``: 50,000 to train, 10,000 to validate, the published 10,000 to test.

    Raises InputError with the missing files and where to put them, and for files that are not the published ones.
    """
    folder = files.find(root)
    images, labels, test_images, test_labels = (read_idx(files, folder, name) for name in files.sums)
    images, test_images = (resize(pictures.unsqueeze(1), image_size) for pictures in (images, test_images))
    labels, test_labels = labels.to(torch.int64), test_labels.to(torch.int64)
    val_size = min(VAL, len(labels) // 6)
    train, val = split_stratified(labels, (len(labels) - val_size, val_size), seed)
    return build_image_data(
        "fashion-mnist",
        train=(images[train], labels[train]),
        val=(images[val], labels[val]),
        test=(test_images, test_labels),
        num_classes=10,
        flip=True,
    )


FASHION_MNIST = Dataset(
    load=load_fashion_mnist,
    image_size=28,
    num_classes=10,
    channels=1,
    reads_files=True,
    summary="70,000 pictures of clothes in 10 classes, grey, 28 x 28; can be downloaded, and is a Debian package",
    fetch=FILES.fetch,
)
