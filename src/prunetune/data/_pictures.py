"""Picture files (JPEG, PNG and whatever else Pillow reads) as one tensor."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import torch

from prunetune.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

BILINEAR: Final = 2  # Pillow's number for it; Pillow is imported where pictures are read

Read: TypeAlias = Callable[[str], bytes]
"""The content of a file by its name; may raise OSError."""

SUFFIXES: Final = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
)  # as torchvision's ImageFolder


def decode(names: Sequence[str], read: Read, size: int | None, whence: str) -> torch.Tensor:
    """The pictures as colours (N, 3, size, size), uint8, in the order of ``names``; ``whence`` is said in errors.

    A picture of another size is scaled so that its shorter side fits, and what sticks out on both sides of the longer
    one is cut off, as torchvision's ``Resize`` and ``CenterCrop`` do. Without ``size`` all must be squares of one size.
    Raises InputError that names the first file that cannot be used.
    """
    try:
        from PIL import Image  # comes with torchvision, and is only needed here
    except ImportError:
        raise InputError("reading pictures needs Pillow, which is not installed: pip install pillow") from None

    def one(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        try:
            with warnings.catch_warnings(), Image.open(io.BytesIO(read(name))) as image:
                warnings.simplefilter("ignore")  # of odd metadata
                return np.asarray(square(image.convert("RGB"), wanted))
        except Exception as error:  # a damaged file can fail in any way
            raise InputError(f"cannot read the picture {name!r} in {whence}: {error}") from None

    wanted = size
    first = one(names[0])
    if size is None and first.shape[0] != first.shape[1]:
        raise InputError(
            f"{names[0]!r} in {whence} is {first.shape[1]} x {first.shape[0]} pixels, but networks get squares: give "
            "data.image_size"
        )
    side = first.shape[0]
    pictures = torch.empty((len(names), 3, side, side), dtype=torch.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases Python's lock
        for index, picture in enumerate(pool.map(one, names)):
            if picture.shape != first.shape:
                raise InputError(
                    f"{names[index]!r} in {whence} is {picture.shape[1]} x {picture.shape[0]} pixels and {names[0]!r} "
                    f"is {side} x {side}: give data.image_size"
                )
            pictures[index] = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    return pictures


def square(image: Image.Image, size: int | None) -> Image.Image:
    """The middle of a picture, scaled to ``size`` x ``size``; None leaves it."""
    if size is None or image.size == (size, size):
        return image
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), BILINEAR, box=(left, top, left + side, top + side))
