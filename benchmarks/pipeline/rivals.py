"""The usual DataLoader with torchvision's transforms, and the usual training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from prunetune.data import ImageData

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
Epoch: TypeAlias = Callable[[], object]
"""Goes through all pictures once."""


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """As torchvision does it for small pictures: an array of all, one of which becomes a PIL image at a time."""

    def __init__(self, data: ImageData, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images: NDArray[np.uint8] = data.train_images.permute(0, 2, 3, 1).cpu().contiguous().numpy()
        self.labels: list[int] = data.train_labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_transform(data: ImageData) -> Callable[[Image.Image], torch.Tensor]:
    """What everybody writes, for the same augmentation in the same order."""
    recipe = data.augmentation
    parts: list[Any] = [transforms.RandomHorizontalFlip()] if recipe.flip else []
    if recipe.rotation:
        parts.append(transforms.RandomRotation(recipe.rotation))
    if recipe.padding:
        parts.append(transforms.RandomCrop(data.image_size, padding=recipe.padding))
    return transforms.Compose(  # type: ignore[no-any-return]
        [*parts, transforms.ToTensor(), transforms.Normalize(data.mean.cpu(), data.std.cpu())]
    )


@dataclass(frozen=True)
class LoadersBatches:
    """An epoch of the batches of a DataLoader, on the device."""

    loader: DataLoader[Batch]
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def usual_loop(proxy: nn.Module, batches: Iterable[Batch], device: torch.device) -> Epoch:
    """Plain PyTorch: float32, torch's own memory layout, SGD as it comes."""
    model = copy.deepcopy(proxy).to(device).train()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return partial(steps, model, sgd, batches)


def steps(
    forward: Callable[[torch.Tensor], torch.Tensor], sgd: torch.optim.Optimizer, batches: Iterable[Batch]
) -> None:
    for images, labels in batches:
        sgd.zero_grad()
        torch.autograd.backward(F.cross_entropy(forward(images), labels))
        sgd.step()


LOOPS: Final = ("batches alone", "usual loop", "our loop")
