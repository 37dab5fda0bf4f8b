"""ResNets for CIFAR: 6n + 2 layers in three stages of 16, 32 and 64 channels.

He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2, with the shortcut of option A: where a
stage begins, the input is subsampled and padded with channels of zeros, so that no shortcut has parameters.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS: Final = (16, 32, 64)


class ZeroPadding(nn.Module):
    """Option A: every ``stride``-th pixel, and as many channels of zeros behind as the branch has more.

    How many those are is read from the tensors when they meet, so that a block whose channels were cut still adds up.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, images: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """``images`` (B, C, H, W) in the shape of ``branch`` (B, C', H', W'), C' >= C."""
        subsampled = images[:, :, :: self.stride, :: self.stride]
        return F.pad(subsampled, (0, 0, 0, 0, 0, branch.shape[1] - subsampled.shape[1]))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to a parameter-free shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = ZeroPadding(stride) if stride != 1 or in_channels != channels else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        branch: torch.Tensor = F.relu(self.bn1(self.conv1(images)))
        branch = self.bn2(self.conv2(branch))
        identity = images if self.shortcut is None else self.shortcut(images, branch)
        return F.relu(branch + identity)


class ResNet(nn.Module):
    """A first convolution, three stages of ``blocks`` residual blocks, global average pooling and a linear layer.

    Images are (B, in_channels, H, W), logits (B, num_classes); the second and third stage halve the image.
    """

    def __init__(self, blocks: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        stages: list[nn.Module] = []
        channels = WIDTHS[0]
        for number, width in enumerate(WIDTHS):
            stage: list[nn.Module] = []
            for block in range(blocks):
                stage.append(BasicBlock(channels, width, stride=2 if number > 0 and block == 0 else 1))
                channels = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        features: torch.Tensor = F.relu(self.bn1(self.conv1(images)))
        features = self.pool(self.stages(features))  # (B, 64, 1, 1)
        logits: torch.Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def resnet8(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-8 (one block a stage): 0.08 M parameters for 10 classes."""
    return ResNet(1, num_classes, in_channels)


def resnet14(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-14 (two blocks a stage): 0.17 M parameters for 10 classes."""
    return ResNet(2, num_classes, in_channels)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-20 (three blocks a stage): 0.27 M parameters for 10 classes."""
    return ResNet(3, num_classes, in_channels)


def resnet32(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-32 (five blocks a stage): 0.46 M parameters for 10 classes."""
    return ResNet(5, num_classes, in_channels)


def resnet56(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-56 (nine blocks a stage): 0.85 M parameters for 10 classes."""
    return ResNet(9, num_classes, in_channels)


def resnet110(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-110 (eighteen blocks a stage): 1.7 M parameters for 10 classes."""
    return ResNet(18, num_classes, in_channels)
