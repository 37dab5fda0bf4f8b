"""What a dataset is: tensors of images and labels, split for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import torch
from torch.nn import functional as F

from prunetune.data._files import Say
from prunetune.errors import InputError

CIFAR_PADDING: Final = Fraction(4, 32)
"""The frame of zeros that is usual for CIFAR, and the paper's: 4 pixels around 32."""


@dataclass(frozen=True)
class Augmentation:
    """What happens to every training image at random, each time anew.

    ``flip``: mirrored left to right, or not. ``rotation``: by up to so many degrees to either side. ``padding``: set
    into a frame of zeros of so many pixels, out of which a window of the image's size is cut.
    """

    flip: bool = False
    rotation: float = 0.0
    padding: int = 0


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification dataset as tensors, all on one device.

    Images are uint8 (N, C, H, W), labels int64 (N,). ``mean`` and ``std`` are float32 (C,), of the training images
    scaled to 0..1; the validation and test images had no part in them. ``augmentation`` is what suits the training
    images: a mirror image of a digit or a letter would not keep its label.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    val_images: torch.Tensor
    val_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    num_classes: int
    mean: torch.Tensor
    std: torch.Tensor
    augmentation: Augmentation

    @property
    def channels(self) -> int:
        """Channels of an image: 1 for grey, 3 for colour."""
        return self.train_images.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.train_images.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.train_images.device

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) of 0..255 as float32 with mean 0 and deviation 1 over the training images."""
        scale = (1 / (255 * self.std)).view(1, -1, 1, 1)
        shift = (self.mean / self.std).view(1, -1, 1, 1)
        return images.to(torch.float32) * scale - shift

    def to(self, device: torch.device | str) -> ImageData:
        """The same data with all tensors on ``device``."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]  # the names are those of tensor fields


# (image size or None for the data's own, folder or None for the usual places, seed of the split) -> data
Load: TypeAlias = Callable[[int | None, Path | None, int], ImageData]


@dataclass(frozen=True)
class Dataset:
    """How a dataset is loaded, and what is known about it before anything is read.

    ``load(image_size, root, seed)`` returns the data on the CPU: images scaled to ``image_size`` (None: their own
    size), files from the folder ``root`` (None: where they usually are), split with ``seed``. ``reads_files`` is False
    where the images come with an installed package, so that a folder would mean nothing. ``fetch(root, say)``
    downloads the files that are missing into ``root``, where that can be done. Size and number of classes are None
    where they depend on the files.
    """

    load: Load
    image_size: int | None
    num_classes: int | None
    channels: int
    reads_files: bool
    summary: str
    fetch: Callable[[Path | None, Say], None] | None = None


def build_image_data(
    name: str,
    *,
    train: tuple[torch.Tensor, torch.Tensor],
    val: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    num_classes: int,
    flip: bool,
    rotation: float = 0.0,
    padding: Fraction = CIFAR_PADDING,
) -> ImageData:
    """An ``ImageData`` of (images, labels) pairs, with the mean and deviation of the training images.

    ``padding`` is a share of the images' size, so that smaller images are shifted by less.
    """
    # Exact and without a floating-point copy of all images: how often each of the 256 values occurs in a channel.
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in train[0].unbind(1)]).to(
        torch.float64
    )
    share = counts / counts.sum(1, keepdim=True)  # (C, 256)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * values).sum(1)
    std = (share * (values - mean[:, None]) ** 2).sum(1).sqrt().clamp_min_(1e-8)
    return ImageData(
        name,
        *train,
        *val,
        *test,
        num_classes=num_classes,
        mean=mean.to(torch.float32),
        std=std.to(torch.float32),
        augmentation=Augmentation(flip, rotation, int(train[0].shape[-1] * padding)),
    )


def resize(images: torch.Tensor, size: int | None) -> torch.Tensor:
    """Square images (N, C, H, W), uint8, as (N, C, size, size), uint8, interpolated bilinearly; None leaves them."""
    if size is None or images.shape[-1] == size:
        return images
    shrinks = size < images.shape[-1]
    parts = [
        F.interpolate(part.to(torch.float32), (size, size), mode="bilinear", antialias=shrinks).round_().to(torch.uint8)
        for part in torch.split(images, 4096)
    ]
    return torch.cat(parts)


def split_stratified(labels: torch.Tensor, sizes: tuple[int, ...], seed: int) -> tuple[torch.Tensor, ...]:
    """Disjoint index sets of the given sizes, drawn at random, each with the classes in the proportions of the whole.

    ``labels`` is (N,); the sizes may add up to less than N, but not to more (InputError). Each index set is sorted;
    the same seed gives the same sets.

    Example
    -------
    >>> labels = torch.tensor([0, 1] * 4)
    >>> first, second = split_stratified(labels, (4, 2), seed=0)
    >>> labels[first].bincount().tolist(), labels[second].bincount().tolist()
    ([2, 2], [1, 1])
    """
    if sum(sizes) > len(labels) or min(sizes) < 0:
        raise InputError(f"cannot split {len(labels)} images into sets of {', '.join(map(str, sizes))}")
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    counts = labels.bincount()
    # Put the j-th image of a class at (j + 1/2) / n_class of the way: any stretch of this order is stratified.
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    starts = counts.cumsum(0) - counts
    ordered = labels[by_class]
    place = (torch.arange(len(labels)) - starts[ordered] + 0.5) / counts[ordered]
    order = by_class[torch.argsort(place.to(torch.float64), stable=True)]
    bounds = torch.tensor((0, *sizes)).cumsum(0).tolist()
    return tuple(order[a:b].sort().values for a, b in pairwise(bounds))
