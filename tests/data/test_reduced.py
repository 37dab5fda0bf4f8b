"""Smaller datasets: images scaled as torch scales them, subsets that keep the classes' shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from prunetune.data import Augmentation, ImageData, datasets, reduced
from prunetune.errors import InputError


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return datasets["digits"].load(16, None, 0)


def test_images_are_scaled_down_with_antialiasing(digits: ImageData) -> None:
    small = reduced(digits, resolution=0.5)
    for part in ("train", "val"):
        images, full = getattr(small, f"{part}_images"), getattr(digits, f"{part}_images")
        assert (images.shape, images.dtype) == ((len(full), 1, 8, 8), torch.uint8)
        oracle = F.interpolate(full.float(), scale_factor=0.5, mode="bilinear", antialias=True)
        assert (images - oracle).abs().max() <= 0.5  # rounded to bytes
        assert images.float().mean() == pytest.approx(full.float().mean().item(), rel=0.02)
        area = F.interpolate(full.float(), (8, 8), mode="area")
        assert torch.corrcoef(torch.stack([images.flatten().float(), area.flatten()]))[0, 1] > 0.97
    assert small.image_size == 8
    assert torch.equal(small.test_images, digits.test_images)
    assert torch.equal(small.mean, digits.mean)
    assert torch.equal(small.std, digits.std)


@pytest.mark.parametrize(("resolution", "pixels"), [(0.75, 12), (0.3, 5), (0.01, 1)])
def test_pixels_are_whole(digits: ImageData, resolution: float, pixels: int) -> None:
    assert reduced(digits, resolution=resolution).train_images.shape[2:] == (pixels, pixels)


def test_the_padding_shrinks_along(digits: ImageData) -> None:
    padded = replace(digits, augmentation=Augmentation(flip=True, rotation=10, padding=4))
    assert reduced(padded, resolution=0.5).augmentation == Augmentation(flip=True, rotation=10, padding=2)
    assert reduced(padded, share=0.5).augmentation == padded.augmentation


def test_a_subset_keeps_the_classes_and_depends_on_the_seed_alone(digits: ImageData) -> None:
    one, same, other = (reduced(digits, share=0.2, seed=seed) for seed in (3, 3, 4))
    assert len(one.train_labels) == len(one.train_images) == 216  # a fifth of 1,079
    expected = digits.train_labels.bincount() * 216 / 1079
    assert (one.train_labels.bincount() - expected).abs().max() <= 1
    assert torch.equal(one.train_images, same.train_images)
    assert not torch.equal(one.train_images, other.train_images)
    assert torch.equal(one.val_images, digits.val_images)
    whole = {
        (image.numpy().tobytes(), int(label))
        for image, label in zip(digits.train_images, digits.train_labels, strict=True)
    }
    assert all(
        (image.numpy().tobytes(), int(label)) in whole
        for image, label in zip(one.train_images, one.train_labels, strict=True)
    )


def test_no_image_left_is_refused(digits: ImageData) -> None:
    with pytest.raises(InputError, match="0.0001 of the 1079 training images of digits is no image"):
        reduced(digits, share=1e-4)
