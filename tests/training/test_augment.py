"""Augmentation: each image by itself, with the distribution of torchvision's transforms, reproducible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F
from torchvision import transforms
from torchvision.transforms import functional as tv

from prunetune.data import Augmentation
from prunetune.training.augment import augment, crop, flip, random_crop, random_flip, random_rotation, rotate

UNLIKELY = 1e-4
"""A distribution is another one if what is seen would be rarer than this; seeds are fixed."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def test_crops_at_given_places_are_torchvisions() -> None:
    images, padding = noise(81, 3, 8, 7), 4
    rows, columns = torch.arange(81) // 9, torch.arange(81) % 9  # all there are
    cropped = crop(images, padding, rows, columns)
    for image, ours, row, column in zip(images, cropped, rows.tolist(), columns.tolist(), strict=True):
        assert torch.equal(ours, tv.crop(tv.pad(image, [padding] * 4), row, column, 8, 7))


def test_given_flips_are_torchvisions() -> None:
    images, which = noise(6, 3, 5, 4), torch.tensor([True, False, False, True, True, False])
    for image, ours, mirrored in zip(images, flip(images, which), which, strict=True):
        assert torch.equal(ours, tv.hflip(image) if mirrored else image)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (28, 28), (9, 16)])
def test_given_rotations_are_torchvisions(height: int, width: int) -> None:
    """Pixels that lie between two others within rounding may go either way."""
    angles = torch.tensor([-180.0, -90.0, -15.0, -3.7, 0.0, 1e-3, 12.0, 45.0, 90.0])
    images = noise(len(angles), 3, height, width)
    for image, ours, angle in zip(images, rotate(images, angles), angles.tolist(), strict=True):
        theirs = tv.rotate(image, angle, interpolation=tv.InterpolationMode.NEAREST)
        different = (ours != theirs).any(0).float().mean().item()
        assert different < (0.15 if abs(angle) in (45.0, 90.0) and (height + width) % 2 else 0.005), angle


def test_a_quarter_turn_by_hand() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 1, 2, 2)
    turned = rotate(image.expand(4, 1, 2, 2), torch.tensor([0.0, 90.0, 180.0, -90.0]))
    assert turned[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def places(images: torch.Tensor, size: int) -> torch.Tensor:
    """How often a single bright pixel was at each place."""
    return images.flatten(1).argmax(1).bincount(minlength=size * size)


def test_every_offset_is_equally_likely_as_in_torchvision() -> None:
    """A bright pixel in the middle of 9 x 9: where it lands is the offset. 81 places for padding 4."""
    count = 40_500
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[..., 4, 4] = 1
    ours = places(random_crop(image.expand(count, 1, 9, 9), 4, generator()), 9)
    assert stats.chisquare(ours).pvalue > UNLIKELY
    theirs = transforms.RandomCrop(9, padding=4)
    drawn = places(torch.stack([theirs(image[0]) for _ in range(8100)]), 9)
    assert stats.chi2_contingency(np.stack([ours, drawn])).pvalue > UNLIKELY


def test_as_many_are_mirrored_as_in_torchvision() -> None:
    count = 40_000
    image = torch.tensor([0, 1], dtype=torch.uint8).view(1, 1, 1, 2)
    ours = int(random_flip(image.expand(count, 1, 1, 2), generator())[:, 0, 0, 0].sum())
    assert abs(ours - count / 2) < 4 * math.sqrt(count / 4)
    theirs = transforms.RandomHorizontalFlip()
    drawn = sum(int(theirs(image[0])[0, 0, 0]) for _ in range(8000))
    table = [[ours, count - ours], [drawn, 8000 - drawn]]
    assert stats.chi2_contingency(table).pvalue > UNLIKELY


def angles_of(images: torch.Tensor) -> np.ndarray:
    """By how many degrees images were turned that had their light on the right of the middle."""
    size = images.shape[-1]
    grid = torch.arange(size) - (size - 1) / 2
    light = images.double()[:, 0]
    x, y = (light * grid).sum((1, 2)), (light * grid[:, None]).sum((1, 2))
    return torch.rad2deg(torch.atan2(-y, x)).numpy()


def test_angles_are_distributed_as_in_torchvision() -> None:
    """All degrees are equally likely. An image of 65 pixels looks the same turned by less than one: bins have three."""
    size, degrees, count = 65, 15.0, 4000
    grid = torch.arange(size) - size // 2
    half = ((grid > 0) & (grid**2 + grid[:, None] ** 2 <= 30**2)).to(torch.uint8).view(1, 1, size, size)
    ours = angles_of(random_rotation(half.expand(count, 1, size, size), degrees, generator()))
    bins = np.array([-16.5, *np.arange(-10.5, 11, 3), 16.5])  # the outer ones reach to -15 and 15: 4.5 degrees
    seen = np.histogram(ours, bins)[0]
    assert stats.chisquare(seen, count * np.array([4.5, *[3] * 7, 4.5]) / 30).pvalue > UNLIKELY
    assert 14.5 < ours.max() < 15.5
    assert -15.5 < ours.min() < -14.5
    theirs = transforms.RandomRotation(degrees)
    drawn = angles_of(torch.stack([theirs(half[0]) for _ in range(1500)]))
    assert stats.chi2_contingency(np.stack([seen, np.histogram(drawn, bins)[0]])).pvalue > UNLIKELY


def test_the_three_are_independent() -> None:
    """Whether an image is mirrored says nothing of where it is cropped, nor of the next image."""
    count = 20_000
    image = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    image[..., 2, 2], image[..., 2, 1] = 2, 1  # the brightest says where, its neighbour which way around
    moved = augment(image.expand(count, 1, 5, 5), Augmentation(flip=True, padding=1), generator())[:, 0]
    where = moved.flatten(1).argmax(1)
    mirrored = (moved.flatten(1).gather(1, where[:, None] + 1) == 1)[:, 0]
    assert len(where.unique()) == 9
    table = torch.zeros(2, 25).index_put((mirrored.long(), where), torch.ones(count), accumulate=True)
    assert stats.chi2_contingency(table[:, where.unique()].numpy()).pvalue > UNLIKELY
    pairs = torch.stack([mirrored[:-1], mirrored[1:]]).long()
    after = torch.zeros(2, 2).index_put((pairs[0], pairs[1]), torch.ones(count - 1), accumulate=True)
    assert stats.chi2_contingency(after.numpy()).pvalue > UNLIKELY


def test_the_order_is_the_papers() -> None:
    """Mirrored, rotated, cropped: what of a rotated image sticks out is lost before the crop."""
    images, recipe = noise(16, 3, 12, 12), Augmentation(flip=True, rotation=30, padding=2)
    by_hand = generator(3)
    expected = random_flip(images, by_hand)
    expected = random_rotation(expected, 30, by_hand)
    expected = random_crop(expected, 2, by_hand)
    assert torch.equal(augment(images, recipe, generator(3)), expected)


def test_nothing_asked_for_is_nothing_done() -> None:
    images = noise(2, 1, 4, 4)
    assert augment(images, Augmentation(), generator()) is images
    assert random_crop(images, 0, generator()) is images
    assert torch.equal(rotate(images, torch.zeros(2)), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_same_seed_gives_the_same_images(dtype: torch.dtype) -> None:
    images, recipe = noise(16, 3, 8, 8).to(dtype), Augmentation(flip=True, rotation=20, padding=2)
    before = images.clone()
    one, again, other = (augment(images, recipe, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.dtype == dtype
    assert torch.equal(images, before)


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.arange(1, 1 + 3 * 2 * 4 * 4, dtype=torch.uint8).reshape(3, 2, 4, 4)
    padded = F.pad(images, (1, 1, 1, 1))
    for image, frame in zip(random_crop(images, 1, generator()), padded, strict=True):
        windows = [frame[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        assert sum(torch.equal(image, window) for window in windows) == 1
