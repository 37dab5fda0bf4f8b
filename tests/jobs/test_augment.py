"""Augmentation: each image by itself, with the distribution that is said, reproducible."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from prunetune.jobs.augment import random_crop, random_flip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.arange(1, 1 + 3 * 2 * 4 * 4, dtype=torch.uint8).reshape(3, 2, 4, 4)
    padded = F.pad(images, (1, 1, 1, 1))
    for image, frame in zip(random_crop(images, 1, generator()), padded, strict=True):
        windows = [frame[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        assert sum(torch.equal(image, window) for window in windows) == 1


def test_every_offset_is_equally_likely_and_images_are_independent() -> None:
    """A single bright pixel in the middle of 5 x 5: where it lands is the offset. 25 places for padding 2."""
    count = 25_000
    images = torch.zeros(count, 1, 5, 5)
    images[:, 0, 2, 2] = 1
    place = random_crop(images, 2, generator()).flatten(1).argmax(1).bincount(minlength=25)
    # Each place is binomial(25000, 1/25): mean 1000, deviation 31.
    assert (place - 1000).abs().max() < 5 * 31


def test_no_padding_changes_nothing() -> None:
    images = torch.rand(2, 1, 4, 4)
    assert random_crop(images, 0, generator()) is images


def test_half_of_the_images_are_mirrored() -> None:
    count = 10_000
    images = torch.tensor([0.0, 1.0]).expand(count, 1, 1, 2)
    flipped = random_flip(images, generator())
    mirrored = int(flipped[:, 0, 0, 0].sum())
    assert abs(mirrored - count / 2) < 5 * math.sqrt(count / 4)
    assert torch.equal(flipped.sum(3), torch.ones(count, 1, 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_same_seed_gives_the_same_images(dtype: torch.dtype) -> None:
    images = torch.randint(0, 255, (16, 3, 8, 8), generator=generator()).to(dtype)
    one, again, other = (random_flip(random_crop(images, 2, g), g) for g in map(generator, (1, 1, 2)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.dtype == dtype
