"""TinyImageNet: 110,000 labelled colour pictures in 200 classes, 64 x 64 pixels.

Le & Yang, "Tiny ImageNet Visual Recognition Challenge" (2015). Read as published, from the archive itself or unpacked:
``train/<class>/images/*.JPEG``; ``val/images/*.JPEG`` with their classes in ``val/val_annotations.txt``, one line a
picture (name, class, and a box, separated by tabs); ``wnids.txt`` with the classes. The pictures in ``test`` have no
published labels, so that the published validation pictures are our test.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import torch

from prunetune.data._files import file_md5
from prunetune.data._images import Dataset, ImageData, build_image_data, resize, split_stratified
from prunetune.data._pictures import Read, decode
from prunetune.errors import InputError

ARCHIVE: Final = "tiny-imagenet-200.zip"
ARCHIVE_MD5: Final = "90528d7ca1a48142e341f4ef8d21d0de"
TOP: Final = "tiny-imagenet-200"
FOLDERS: Final = (Path("data"), Path("data/tinyimagenet"))
VAL_SHARE: Final = 10

PADDING: Final = Fraction(6, 128)
"""The paper's frame of zeros: 6 pixels around 128."""
ROTATION: Final = 15.0
"""Degrees to either side. The paper rotates, and its text has lost by how much: this is our choice."""


def load_tiny_imagenet(
    image_size: int | None = None, root: Path | None = None, seed: int = 0, *, md5: str = ARCHIVE_MD5
) -> ImageData:
    """90,000 pictures to train and 10,000 to validate, of the published training set; 10,000 to test.

    Raises InputError if the archive or the folder is not there, damaged, or not of the published layout.
    """
    names, read, whence = source(root, md5)
    classes = _lines(read, "wnids.txt", whence)
    number = {name: each for each, name in enumerate(sorted(set(classes)))}
    train_names = [name for name in names if name.startswith("train/") and name.endswith(".JPEG")]
    train_labels = [number.get(name.split("/")[1], -1) for name in train_names]
    rows = [line.split("\t") for line in _lines(read, "val/val_annotations.txt", whence)]
    if not train_names or -1 in train_labels or any(len(row) < 2 or row[1] not in number for row in rows) or not rows:
        raise InputError(
            f"{whence} is not of TinyImageNet's layout: wnids.txt does not name the classes of all pictures"
        )
    test_names, test_labels = [f"val/images/{row[0]}" for row in rows], [number[row[1]] for row in rows]
    images, test_images = (resize(decode(each, read, None, whence), image_size) for each in (train_names, test_names))
    labels = torch.tensor(train_labels)
    val_size = len(labels) // VAL_SHARE
    train, val = split_stratified(labels, (len(labels) - val_size, val_size), seed)
    return build_image_data(
        "tinyimagenet",
        train=(images[train], labels[train]),
        val=(images[val], labels[val]),
        test=(test_images, torch.tensor(test_labels)),
        num_classes=len(number),
        flip=True,
        rotation=ROTATION,
        padding=PADDING,
    )


def source(root: Path | None, md5: str = ARCHIVE_MD5) -> tuple[Sequence[str], Read, str]:
    """The names of all files relative to ``tiny-imagenet-200``, a function that reads one, and where that is."""
    for parent in FOLDERS if root is None else (root,):
        for folder in (parent, parent / TOP):
            if (folder / "wnids.txt").is_file():
                files = sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
                return files, lambda name, folder=folder: (folder / name).read_bytes(), repr(str(folder))
        if (parent / ARCHIVE).is_file():
            return _archive(parent / ARCHIVE, md5)
    looked = "" if root is not None else f" (looked in {', '.join(repr(str(each)) for each in FOLDERS)})"
    place = "" if root is not None else " or into the folder that data.root names"
    raise InputError(
        f"TinyImageNet's files are not there: put {ARCHIVE}, as it is or unpacked, into "
        f"{str(root if root is not None else FOLDERS[-1])!r}{place}; it cannot be downloaded from here{looked}"
    )


def _archive(path: Path, md5: str) -> tuple[Sequence[str], Read, str]:
    if (found := file_md5(path)) != md5:
        raise InputError(
            f"{str(path)!r} is not the published archive: its MD5 sum is {found} and should be {md5}; get it anew"
        )
    archive = zipfile.ZipFile(path)
    names = sorted(name.removeprefix(f"{TOP}/") for name in archive.namelist() if not name.endswith("/"))
    return names, lambda name: archive.read(f"{TOP}/{name}"), repr(str(path))


def _lines(read: Read, name: str, whence: str) -> list[str]:
    try:
        return [line for line in read(name).decode("utf-8").splitlines() if line.strip()]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{whence} is not of TinyImageNet's layout: cannot read {name} ({error})") from None


TINY_IMAGENET: Final = Dataset(
    load=load_tiny_imagenet,
    image_size=64,
    num_classes=200,
    channels=3,
    reads_files=True,
    summary="110,000 pictures in 200 classes, colour, 64 x 64; from tiny-imagenet-200.zip",
)
