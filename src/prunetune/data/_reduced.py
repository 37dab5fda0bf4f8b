"""A dataset made cheaper: smaller images, fewer of them to train on."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from prunetune._utils.images import pixels_of
from prunetune.data._images import ImageData, resize, split_stratified
from prunetune.errors import InputError


def reduced(data: ImageData, *, resolution: float = 1.0, share: float = 1.0, seed: int = 0) -> ImageData:
    """``data`` with a ``share`` of its training images, and those for training and validation scaled down.

    Which images stay depends on ``seed`` alone; the classes keep their proportions. ``resolution`` is a share of the
    images' height and width, scaled with antialiasing and rounded to whole pixels; the padding of the augmentation
    shrinks along. Mean and deviation for ``normalize`` stay those of the full images, as in training that begins on
    small images and goes on with large ones. Test images stay as they are: no trial is told about them.

    Raises InputError if no training image would be left.
    """
    images, labels = data.train_images, data.train_labels
    if share < 1:
        kept = subset_size(len(labels), share)
        if kept == 0:
            raise InputError(f"{share:.3g} of the {len(labels)} training images of {data.name} is no image; take more")
        (chosen,) = split_stratified(labels.cpu(), (kept,), seed)
        images, labels = images[chosen.to(data.device)], labels[chosen.to(data.device)]
    size = pixels_of(resolution, data.image_size)
    padding = math.floor(data.augmentation.padding * size / data.image_size + 0.5)
    return replace(
        data,
        train_images=resize(images, size),
        train_labels=labels,
        val_images=resize(data.val_images, size),
        augmentation=replace(data.augmentation, padding=padding),
    )


def subset_size(images: int, share: float) -> int:
    """How many of so many training images a share of them is.

    >>> subset_size(1079, 0.2)
    216
    """
    return math.floor(images * share + 0.5)


def reduced_indices(count: int, share: float, seed: int) -> torch.Tensor:
    """Indices of a share of so many training examples, drawn with ``seed``, sorted. Raises InputError for none."""
    kept = subset_size(count, share)
    if kept == 0:
        raise InputError(f"{share:.3g} of {count} training examples is none; take more")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:kept].sort().values
