"""Smaller images: which a network runs on, how they are scaled, and how a step on them is measured. By hand."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import prunetune.engine
from prunetune.errors import InputError
from prunetune.tuning.resolution import at_resolution, check_resolution, smallest_pixels, step_ratio

pytestmark = pytest.mark.filterwarnings("error")

IMAGES = torch.randn(1, 3, 32, 32)


def test_a_network_runs_on_images_from_some_size_on() -> None:
    """One that halves its images three times: 8 pixels are the fewest."""
    pools = [layer for _ in range(3) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.MaxPool2d(2))]
    model = nn.Sequential(*pools)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_resolution(model, IMAGES, 1.0)
    check_resolution(model, torch.randn(1, 3, 16, 16), 0.5)
    with pytest.raises(InputError) as caught:
        check_resolution(model, torch.randn(1, 3, 16, 16), 0.25)
    assert str(caught.value).startswith("resolution is 0.25, but the network does not run on images of 4 pixels (")
    assert str(caught.value).endswith("; the smallest possible is 0.5 (8 pixels)")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_of_one_size_and_inputs_that_are_no_images() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    with pytest.raises(InputError, match="it runs on none below their own size: leave it at 1"):
        check_resolution(flat, IMAGES, 0.5)
    assert smallest_pixels(flat, IMAGES, 30) == 32
    for inputs in (torch.zeros(2, 6), {"x": IMAGES}, (IMAGES, IMAGES), IMAGES.long()):
        with pytest.raises(InputError, match=re.escape("resolution is 0.5, but the example inputs are not")):
            check_resolution(flat, inputs, 0.5)


def test_images_are_scaled_to_whole_pixels() -> None:
    assert at_resolution(torch.zeros(2, 3, 32, 48), 0.5).shape == (2, 3, 16, 24)
    assert at_resolution(torch.zeros(2, 3, 9, 9), 0.5).shape == (2, 3, 5, 5)
    assert at_resolution(IMAGES, 1.0) is IMAGES


def test_the_step_is_measured_on_the_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    class Net(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.conv = name, nn.Conv2d(3, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen[self.name] = tuple(images.shape)
            result: torch.Tensor = self.conv(images)
            return result

    def timed(models: dict[str, nn.Module], inputs: torch.Tensor) -> dict[str, float]:
        for model in models.values():
            model(inputs)
        return {"base": 8.0, "proxy": 1.0}

    monkeypatch.setattr(prunetune.engine, "step_time", timed)
    assert step_ratio(Net("base"), Net("proxy"), IMAGES, 0.5) == 1 / 8
    assert seen == {"base": (1, 3, 32, 32), "proxy": (1, 3, 16, 16)}
