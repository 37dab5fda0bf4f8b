"""Smaller images for a network: does it run on them, and how long does a step take?"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from prunetune import engine
from prunetune._utils.images import pixels_of
from prunetune.engine.surroundings import set_aside
from prunetune.errors import InputError

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs


def images_in(example_inputs: ExampleInputs) -> torch.Tensor | None:
    """The images (B, C, H, W) that a network is called with; None where it is called with anything else."""
    if isinstance(example_inputs, dict):
        return None
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    if len(inputs) == 1 and isinstance(inputs[0], torch.Tensor) and inputs[0].dim() == 4:
        return inputs[0] if inputs[0].is_floating_point() else None
    return None


def at_resolution(images: torch.Tensor, share: float) -> torch.Tensor:
    """Images (B, C, H, W), float, scaled down to ``share`` of their height and width, antialiased."""
    size = [pixels_of(share, side) for side in images.shape[2:]]
    if size == list(images.shape[2:]):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def check_resolution(model: nn.Module, example_inputs: ExampleInputs, share: float) -> None:
    """Raise InputError unless ``model`` can be trained on images of ``share`` of the resolution; it is not changed.

    The sentence says which resolution is the smallest above it that is possible.
    """
    if share == 1:
        return
    images = images_in(example_inputs)
    if images is None:
        raise InputError(
            f"resolution is {share:g}, but the example inputs are not images (one float tensor of shape "
            "(batch, channels, height, width)); leave it at 1"
        )
    side = min(images.shape[2:])
    wanted = pixels_of(share, side)
    why = _failure(model, images, wanted / side)
    if why is not None:
        smallest = smallest_pixels(model, images, wanted + 1)
        possible = f"the smallest possible is {smallest / side:.4g} ({smallest} pixels)"
        raise InputError(
            f"resolution is {share:g}, but the network does not run on images of {wanted} pixels ({why}); "
            f"{possible if smallest < side else 'it runs on none below their own size: leave it at 1'}"
        )


def smallest_pixels(model: nn.Module, images: torch.Tensor, first: int) -> int:
    """The smallest side, from ``first`` on, of images that ``model`` can be trained on; at most that of ``images``."""
    side = min(images.shape[2:])
    return next((pixels for pixels in range(first, side) if _failure(model, images, pixels / side) is None), side)


def _failure(model: nn.Module, images: torch.Tensor, share: float) -> str | None:
    """Why a copy of the model does not run on two small images in training mode, in a line; None where it does."""
    device = next((parameter.device for parameter in model.parameters()), images.device)
    two = at_resolution(images[:1].to(device), share).repeat(2, 1, 1, 1)  # batch norms ask for more than one
    trial: Any = copy.deepcopy(model).train()
    with set_aside(trial), torch.no_grad():
        try:
            trial(two)
        except Exception as error:  # the user's network may raise anything
            return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return None


def step_ratio(base: nn.Module, proxy: nn.Module, example_inputs: ExampleInputs, share: float) -> float:
    """Time of a training step of ``proxy`` at ``share`` of the resolution over that of ``base`` at the whole.

    Both are measured in turns. The example inputs are images, see ``check_resolution``.
    """
    images = images_in(example_inputs)
    assert images is not None
    device = next((parameter.device for parameter in proxy.parameters()), images.device)
    small = _Elsewhere(proxy, at_resolution(images.to(device), share))
    seconds = engine.step_time({"base": base, "proxy": small}, example_inputs)
    return seconds["proxy"] / seconds["base"]


class _Elsewhere(nn.Module):
    """A network that runs on images of its own, whatever it is called with."""

    images: torch.Tensor

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("images", images)

    def forward(self, *_: object) -> Any:
        return self.model(self.images)
