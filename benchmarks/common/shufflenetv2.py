"""ShuffleNetV2 for CIFAR: channels are split, half of them filtered, joined and shuffled.

Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design" (2018), table 5, width 1. For
32 x 32 pixels the first convolution keeps the image's size and the max pooling is left out.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

# Output channels and units of the stages 2, 3 and 4.
STAGES: Final = ((116, 4), (232, 8), (464, 4))


def channel_shuffle(images: torch.Tensor, groups: int) -> torch.Tensor:
    """Interleave the channels of ``groups`` equal parts; (B, C, H, W) to (B, C, H, W)."""
    batch, channels, height, width = images.shape
    grouped = images.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)


def pointwise(in_channels: int, channels: int) -> list[nn.Module]:
    """1 x 1 convolution, batch norm, ReLU."""
    return [nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def depthwise(channels: int, stride: int) -> list[nn.Module]:
    """3 x 3 convolution of every channel by itself, batch norm, no activation."""
    conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class ShuffleUnit(nn.Module):
    """One half of the channels passes, the other is filtered (Ma et al., figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(*pointwise(half, half), *depthwise(half, 1), *pointwise(half, half))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        passed, filtered = images.chunk(2, dim=1)
        return channel_shuffle(torch.cat([passed, self.branch(filtered)], dim=1), 2)


class DownUnit(nn.Module):
    """Both branches see all channels and halve the image (Ma et al., figure 3d)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch1 = nn.Sequential(*depthwise(in_channels, 2), *pointwise(in_channels, half))
        self.branch2 = nn.Sequential(*pointwise(in_channels, half), *depthwise(half, 2), *pointwise(half, half))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, channels, H / 2, W / 2)."""
        return channel_shuffle(torch.cat([self.branch1(images), self.branch2(images)], dim=1), 2)


class ShuffleNetV2(nn.Module):
    """Images (B, in_channels, H, W) to logits (B, num_classes); the image is halved three times."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 24
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        for width, units in STAGES:
            layers.append(DownUnit(channels, width))
            layers += [ShuffleUnit(width) for _ in range(units - 1)]
            channels = width
        layers += pointwise(channels, 1024)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        features: torch.Tensor = self.pool(self.features(images))  # (B, 1024, 1, 1)
        logits: torch.Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def shufflenetv2(num_classes: int = 10, in_channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2 of width 1: 1.26 M parameters for 10 classes."""
    return ShuffleNetV2(num_classes, in_channels)
