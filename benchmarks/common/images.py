"""Parts of datasets, random pictures, and small networks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Literal

import torch
from torch import nn

from prunetune.data import Augmentation, ImageData, split_stratified
from prunetune.data._images import build_image_data
from prunetune.zoo import models
from prunetune.zoo.vgg import VGG

SMALL: Final[Mapping[str, Callable[[int, int], nn.Module]]] = {
    "vgg4-bn": partial(VGG, ((64,), (128, 128))),
    "vgg3-bn, narrow": partial(VGG, ((16,), (32,))),
}
"""Members of the zoo's family that are small enough for one core."""

RECIPES: Final[Mapping[str, tuple[int, Augmentation]]] = {  # pixels, and the paper's augmentation
    "cifar": (32, Augmentation(flip=True, padding=4)),
    "tinyimagenet": (64, Augmentation(flip=True, rotation=15, padding=3)),
}


def network(name: str, data: ImageData) -> nn.Module:
    """A network of the zoo, or a small one, for these images, with fresh weights."""
    return (SMALL.get(name) or models[name])(data.num_classes, data.channels)


def first(data: ImageData, *, train: int, val: int) -> ImageData:
    """``data`` with its first training and validation images only."""
    return replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        val_images=data.val_images[:val],
        val_labels=data.val_labels[:val],
    )


def part(data: ImageData, name: Literal["train", "val"], count: int | None, seed: int) -> ImageData:
    """``data`` with so many of its training or validation images, classes in proportion; None leaves it as it is."""
    images, labels = getattr(data, f"{name}_images"), getattr(data, f"{name}_labels")
    if count is None:
        return data
    (kept,) = split_stratified(labels.cpu(), (count,), seed)
    kept = kept.to(labels.device)
    return replace(data, **{f"{name}_images": images[kept], f"{name}_labels": labels[kept]})


def pictures(count: int, size: int, recipe: Augmentation, seed: int) -> ImageData:
    """Random pictures: no time depends on what is on them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    part = (images, torch.randint(10, (count,), generator=generator))
    data = build_image_data("random", train=part, val=part, test=part, num_classes=10, flip=recipe.flip)
    return replace(data, augmentation=recipe)
