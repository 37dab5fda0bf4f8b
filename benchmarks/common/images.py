"""Parts of datasets, random pictures, and small networks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Literal

import torch
import torchvision
from torch import nn

from prunetune.data import Augmentation, ImageData, split_stratified
from prunetune.data._images import build_image_data
from prunetune.zoo import models
from prunetune.zoo.vgg import VGG


def _resnet34(num_classes: int, channels: int) -> nn.Module:
    """Torchvision's, for small images: the first convolution is 3 × 3 and halves them, no pooling follows it."""
    model = torchvision.models.resnet34(num_classes=num_classes)
    model.conv1 = nn.Conv2d(channels, 64, kernel_size=3, stride=2, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


OTHERS: Final[Mapping[str, Callable[[int, int], nn.Module]]] = {
    "vgg4-bn": partial(VGG, ((64,), (128, 128))),
    "vgg3-bn, narrow": partial(VGG, ((16,), (32,))),
    "resnet34, small images": _resnet34,
}
"""Networks that are not in the zoo: two small ones of its family, and a ResNet of full width."""

RECIPES: Final[Mapping[str, tuple[int, Augmentation]]] = {  # pixels, and the paper's augmentation
    "cifar": (32, Augmentation(flip=True, padding=4)),
    "tinyimagenet": (64, Augmentation(flip=True, rotation=15, padding=3)),
}


def network(name: str, data: ImageData) -> nn.Module:
    """A network of the zoo, or another one, for these images, with fresh weights."""
    return (OTHERS.get(name) or models[name])(data.num_classes, data.channels)


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
