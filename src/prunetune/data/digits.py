"""Handwritten digits: 1,797 scans of 8 x 8 pixels that come with scikit-learn, so that nothing is downloaded.

Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits" (1998), UCI Machine Learning Repository; the copy that
scikit-learn ships is its test set.
"""

from __future__ import annotations

from pathlib import Path

import torch

from prunetune.data._images import Dataset, ImageData, build_image_data, resize, split_stratified
from prunetune.errors import InputError

VAL = TEST = 359  # a fifth of 1,797 each; 1,079 are left for training


def load_digits(image_size: int | None = None, root: Path | None = None, seed: int = 0) -> ImageData:
    """The digits, grey, scaled to ``image_size`` pixels: 1,079 to train, 359 to validate, 359 to test.

    Raises InputError without scikit-learn, and if a folder is given, since no file is read.
    """
    if root is not None:
        raise InputError(
            f"the digits come with scikit-learn and are not read from a folder, but {str(root)!r} is given"
        )
    try:
        from sklearn.datasets import load_digits as load  # heavy, and only needed here
    except ImportError:
        raise InputError("the digits need scikit-learn, which is not installed: pip install scikit-learn") from None
    pixels, digits = load(return_X_y=True)
    # 8 x 8 counts of 0..16 dark pixels
    images = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).mul(255 / 16).round_().to(torch.uint8)
    images = resize(images, image_size)
    labels = torch.from_numpy(digits).to(torch.int64)
    train, val, test = split_stratified(labels, (len(labels) - VAL - TEST, VAL, TEST), seed)
    return build_image_data(
        "digits",
        train=(images[train], labels[train]),
        val=(images[val], labels[val]),
        test=(images[test], labels[test]),
        num_classes=10,
        flip=False,
    )


DIGITS = Dataset(
    load=load_digits,
    image_size=8,
    num_classes=10,
    channels=1,
    reads_files=False,
    summary="1,797 handwritten digits, grey, 8 x 8; comes with scikit-learn",
)
