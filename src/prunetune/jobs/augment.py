"""Augmentation of whole batches on the device: every image gets its own random numbers, none passes through Python."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def random_crop(images: torch.Tensor, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Images (B, C, H, W), each padded with ``padding`` zeros all around and cropped to (H, W) at a random place.

    The same distribution as torchvision's ``RandomCrop((H, W), padding=padding)``, drawn for each image by itself.
    """
    if padding == 0:
        return images
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    corner = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, device=images.device)
    rows = corner[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = corner[1] + torch.arange(width, device=images.device)  # (B, W)
    each = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[each, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images (B, C, H, W), each mirrored left to right with probability 1/2."""
    heads = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(heads, images.flip(3), images)
