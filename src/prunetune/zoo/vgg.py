"""VGG with batch norm for small images: 8, 13 or 16 convolutions and one linear layer.

The convolutions are those of Simonyan & Zisserman, "Very Deep Convolutional Networks" (2014), table 1, columns A, D
and E; the classifier is one linear layer, as is usual on CIFAR, since the last feature map is 1 x 1. Convolutions
have no bias, which the batch norm behind them would cancel.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

# Output channels of the convolutions between one pooling and the next.
STAGES: Final[dict[str, tuple[tuple[int, ...], ...]]] = {
    "A": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "D": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "E": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


class VGG(nn.Module):
    """Stages of 3 x 3 convolution, batch norm and ReLU, each ended by a pooling that halves the image.

    Images are (B, in_channels, H, W), logits (B, num_classes). At 32 x 32 the five poolings leave one pixel; smaller
    images reach it earlier and stay there (``ceil_mode``), larger ones are averaged at the end.
    """

    def __init__(self, stages: tuple[tuple[int, ...], ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in stages:
            for width in stage:
                layers += [
                    nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                channels = width
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        features: torch.Tensor = self.pool(self.features(images))  # (B, 512, 1, 1)
        logits: torch.Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def vgg11_bn(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-11 with batch norm: 9.2 M parameters for 10 classes."""
    return VGG(STAGES["A"], num_classes, in_channels)


def vgg16_bn(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-16 with batch norm: 14.7 M parameters for 10 classes."""
    return VGG(STAGES["D"], num_classes, in_channels)


def vgg19_bn(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-19 with batch norm: 20.0 M parameters for 10 classes."""
    return VGG(STAGES["E"], num_classes, in_channels)
