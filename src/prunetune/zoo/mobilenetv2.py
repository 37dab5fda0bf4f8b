"""MobileNetV2 for CIFAR: inverted residuals with depthwise convolutions and ReLU6.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018), table 2. For 32 x 32 pixels the first
convolution and the 24-channel stage keep the image's size, so that 32 pixels end as 4 instead of 1.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

# Expansion, output channels, repetitions, stride of the first repetition (strides of the CIFAR version).
STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv_bn_relu6(
    in_channels: int, channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU6; padded so that stride 1 keeps the image's size."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, (kernel_size - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Widen by ``expansion``, filter every channel by itself, narrow without activation; residual if shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [conv_bn_relu6(in_channels, hidden, 1)]
        layers += [
            conv_bn_relu6(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.branch = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        branch: torch.Tensor = self.branch(images)
        return images + branch if self.residual else branch


class MobileNetV2(nn.Module):
    """Images (B, in_channels, H, W) to logits (B, num_classes); the image is halved three times."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn_relu6(in_channels, 32, 3)]
        channels = 32
        for expansion, width, repetitions, first_stride in STAGES:
            for repetition in range(repetitions):
                layers.append(InvertedResidual(channels, width, first_stride if repetition == 0 else 1, expansion))
                channels = width
        layers.append(conv_bn_relu6(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        features: torch.Tensor = self.pool(self.features(images))  # (B, 1280, 1, 1)
        logits: torch.Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def mobilenetv2(num_classes: int = 10, in_channels: int = 3) -> MobileNetV2:
    """MobileNetV2 of width 1: 2.24 M parameters for 10 classes."""
    return MobileNetV2(num_classes, in_channels)
