"""What a dataset is: tensors of images and labels, split for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import torch
from torch.nn import functional as F

from prunetune.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification dataset as tensors, all on one device.

    Images are uint8 (N, C, H, W), labels int64 (N,). ``mean`` and ``std`` are float32 (C,), of the training images
    scaled to 0..1; the validation and test images had no part in them. ``flip`` says whether a mirror image keeps its
    label, which digits and letters do not.
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
    flip: bool

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
    where the images come with an installed package, so that a folder would mean nothing.
    """

    load: Load
    image_size: int
    num_classes: int
    channels: int
    reads_files: bool
    summary: str


def build_image_data(
    name: str,
    *,
    train: tuple[torch.Tensor, torch.Tensor],
    val: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    num_classes: int,
    flip: bool,
) -> ImageData:
    """An ``ImageData`` of (images, labels) pairs, with the mean and deviation of the training images."""
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
        flip=flip,
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
