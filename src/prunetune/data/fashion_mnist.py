"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels, read from the four published files.

Xiao, Rasul & Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms" (2017).
The IDX format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import Final

import torch

from prunetune.data._images import Dataset, ImageData, build_image_data, resize, split_stratified
from prunetune.errors import InputError

FILES: Final = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# Where Debian's and Ubuntu's package dataset-fashion-mnist puts them, and where a user would.
USUAL_FOLDERS: Final = (Path("/usr/share/datasets/fashion-mnist"), Path("data/fashion-mnist"))
VAL: Final = 10_000


def read_idx(path: Path) -> torch.Tensor:
    """The uint8 tensor in an IDX file that is compressed with gzip. Raises InputError if it holds anything else."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}; it should be an IDX file compressed with gzip") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InputError(f"{str(path)!r} is not an IDX file of bytes: it begins with {content[:4].hex(' ')!r}")
    dimensions = content[3]
    header = 4 + 4 * dimensions
    shape = struct.unpack_from(f">{dimensions}I", content, 4) if len(content) >= header else ()
    if len(shape) != dimensions or len(content) - header != math.prod(shape):
        raise InputError(f"{str(path)!r} is cut off or damaged: {len(content)} bytes do not hold the shape {shape}")
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).reshape(shape)


def find_folder(root: Path | None) -> Path:
    """The folder with all four files: ``root``, or the first usual one. Raises InputError with what is missing."""
    folders = USUAL_FOLDERS if root is None else (root,)
    for folder in folders:
        if all((folder / name).is_file() for name in FILES):
            return folder
    if root is None:
        raise InputError(
            f"Fashion-MNIST's files are not there: put {', '.join(FILES)} into {str(USUAL_FOLDERS[1])!r} or into the "
            f"folder that data.root names, or install the Debian package dataset-fashion-mnist "
            f"(looked in {', '.join(repr(str(folder)) for folder in folders)})"
        )
    missing = [name for name in FILES if not (root / name).is_file()]
    raise InputError(f"Fashion-MNIST's files are not all in {str(root)!r}: put {', '.join(missing)} there")


def load_fashion_mnist(image_size: int | None = None, root: Path | None = None, seed: int = 0) -> ImageData:
    """Fashion-MNIST, scaled to ``image_size``: 50,000 to train, 10,000 to validate, the published 10,000 to test.

    Raises InputError with the missing files and where to put them.
    """
    folder = find_folder(root)
    images, labels, test_images, test_labels = (read_idx(folder / name) for name in FILES)
    for name, pictures, classes in (("train", images, labels), ("t10k", test_images, test_labels)):
        if pictures.ndim != 3 or classes.shape != pictures.shape[:1] or len(pictures) == 0 or int(classes.max()) > 9:
            raise InputError(
                f"the {name} files in {str(folder)!r} do not belong together: images of shape {tuple(pictures.shape)}, "
                f"labels of shape {tuple(classes.shape)}; expected (N, 28, 28) and (N,) with classes 0 to 9"
            )
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
    summary="70,000 pictures of clothes, grey, 28 x 28; four files in a folder",
)
