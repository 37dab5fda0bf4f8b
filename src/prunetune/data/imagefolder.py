"""Pictures in folders, one folder a class: the layout of torchvision's ``ImageFolder``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import torch

from prunetune.data._images import Dataset, ImageData, build_image_data, split_stratified
from prunetune.data._pictures import SUFFIXES, decode
from prunetune.errors import InputError

Listing: TypeAlias = Mapping[str, list[str]]
"""The files of every class."""
Part: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Pictures and their labels."""

PARTS: Final = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""The names that the folder of a part may have."""
SHARE: Final = 10  # one in ten of the training pictures for each part that has no folder of its own


def load_image_folder(image_size: int | None = None, root: Path | None = None, seed: int = 0) -> ImageData:
    """``root/train/<class>/<file>``, the same in ``val`` and ``test``; or ``root/<class>/<file>`` with no parts.

    A part without a folder gets a tenth of the training pictures, drawn with ``seed``, every class in its proportion.
    A picture is in colour, a square of ``image_size``, and may be mirrored in training.

    Raises InputError if the folders are not of this layout, the parts have different classes, or a picture cannot be
    read.
    """
    if root is None:
        raise InputError("data.root must name the folder with the pictures: one folder in it for each class")
    if not root.is_dir():
        raise InputError(f"data.root is {str(root)!r}, but there is no such folder")
    folders = {
        part: next((root / name for name in names if (root / name).is_dir()), None) for part, names in PARTS.items()
    }
    if folders["train"] is None:
        folders = {"train": root, "val": None, "test": None}
    listings = {part: list_classes(folder) for part, folder in folders.items() if folder is not None}
    classes = sorted(listings["train"])
    if len(classes) < 2:
        raise InputError(
            f"{str(folders['train'])!r} must have a folder with pictures for each of at least two classes; "
            f"it has {', '.join(classes) or 'none'}"
        )
    for part, listing in listings.items():
        if odd := sorted(set(listing) ^ set(classes)):
            raise InputError(
                f"the classes of {str(folders[part])!r} are not those of {str(folders['train'])!r}: {odd[0]!r} is only "
                "in one of them"
            )
    parts = {part: _read(listing, classes, image_size, folders[part]) for part, listing in listings.items()}
    train, val, test = _all_parts(parts, seed)
    return build_image_data("imagefolder", train=train, val=val, test=test, num_classes=len(classes), flip=True)


def list_classes(folder: Path) -> Listing:
    """The picture files under each folder in ``folder``, however deep, sorted; folders without any are left out."""
    found = {}
    for each in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = [file for file in each.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
        if files:
            found[each.name] = sorted(str(file.relative_to(folder)) for file in files)
    return found


def _read(listing: Listing, classes: list[str], size: int | None, folder: Path | None) -> Part:
    assert folder is not None
    names = [name for each in classes for name in listing[each]]
    labels = torch.tensor([number for number, each in enumerate(classes) for _ in listing[each]])
    return decode(names, lambda name: (folder / name).read_bytes(), size, repr(str(folder))), labels


def _all_parts(parts: dict[str, Part], seed: int) -> tuple[Part, Part, Part]:
    """Those for training, validation and test; what is missing is taken from the training pictures."""
    images, labels = parts["train"]
    missing = [part for part in ("val", "test") if part not in parts]
    size = len(labels) // SHARE
    if missing and size == 0:
        raise InputError(f"{len(labels)} pictures are too few to take a tenth for {' and '.join(missing)}")
    rest = len(labels) - size * len(missing)
    indices = split_stratified(labels, (rest, *[size] * len(missing)), seed)
    drawn = {part: (images[each], labels[each]) for part, each in zip(("train", *missing), indices, strict=True)}
    whole = {**parts, **drawn}
    return whole["train"], whole["val"], whole["test"]


IMAGE_FOLDER: Final = Dataset(
    load=load_image_folder,
    image_size=None,
    num_classes=None,
    channels=3,
    reads_files=True,
    summary="your own pictures: data.root/train/CLASS/FILE, or data.root/CLASS/FILE",
)
