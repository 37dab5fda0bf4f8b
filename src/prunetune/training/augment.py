"""Augmentation of whole batches on the device: every image gets its own random numbers, none passes through Python.

Images are moved by index and never interpolated, so that they stay bytes until they are normalised. ``flip``,
``rotate`` and ``crop`` do what they are told, image by image; ``random_…`` draw what torchvision's transforms of that
name draw.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from prunetune.data import Augmentation


def augment(images: torch.Tensor, recipe: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Images (B, C, H, W), mirrored, rotated and cropped as ``recipe`` says, in this order, which is the paper's."""
    if recipe.flip:
        images = random_flip(images, generator)
    if recipe.rotation:
        images = random_rotation(images, recipe.rotation, generator)
    if recipe.padding:
        images = random_crop(images, recipe.padding, generator)
    return images


def random_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images (B, C, H, W), each mirrored left to right with probability 1/2."""
    return flip(images, torch.rand(len(images), generator=generator, device=images.device) < 0.5)


def random_rotation(images: torch.Tensor, degrees: float, generator: torch.Generator) -> torch.Tensor:
    """Images (B, C, H, W), each rotated by an angle between ``-degrees`` and ``degrees``, all equally likely."""
    share = 2 * torch.rand(len(images), generator=generator, device=images.device) - 1
    return rotate(images, share * degrees)


def random_crop(images: torch.Tensor, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Images (B, C, H, W), each padded with ``padding`` zeros all around and cropped to (H, W) at a random place."""
    if padding == 0:
        return images
    places = torch.randint(0, 2 * padding + 1, (2, len(images)), generator=generator, device=images.device)
    return crop(images, padding, places[0], places[1])


def flip(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W), those mirrored left to right for which ``which`` (B,) is true."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W), each rotated counter-clockwise by its angle, ``degrees`` (B,), around its middle.

    A pixel is the nearest one of the image, or zero where that is outside.
    """
    batch, channels, height, width = images.shape
    angle = (degrees * (math.pi / 180)).view(-1, 1, 1)
    down = torch.arange(height, device=images.device).view(1, -1, 1) - (height - 1) / 2
    right = torch.arange(width, device=images.device).view(1, 1, -1) - (width - 1) / 2
    row = torch.round(torch.sin(angle) * right + torch.cos(angle) * down + (height - 1) / 2).long()  # (B, H, W)
    column = torch.round(torch.cos(angle) * right - torch.sin(angle) * down + (width - 1) / 2).long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = torch.where(inside, row * width + column, 0).view(batch, 1, -1)
    moved = images.flatten(2).gather(2, place.expand(-1, channels, -1)).view_as(images)
    return torch.where(inside.unsqueeze(1), moved, 0)


def crop(images: torch.Tensor, padding: int, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W), each in a frame of zeros and cropped to (H, W) from its row and column (B,) of that on."""
    height, width = images.shape[2:]
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2p+1, 2p+1, H, W)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]
