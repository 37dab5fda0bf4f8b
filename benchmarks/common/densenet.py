"""DenseNet-BC for CIFAR: every layer reads all the layers before it in its block.

Huang et al., "Densely Connected Convolutional Networks" (2016), section 3 and table 2: 100 layers, growth rate 12,
bottlenecks of four times the growth rate, transitions that halve the channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class DenseLayer(nn.Module):
    """``growth`` new channels, computed through a 1 x 1 bottleneck, behind the channels that came in."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C + growth, H, W)."""
        new = self.conv1(F.relu(self.bn1(images)))
        new = self.conv2(F.relu(self.bn2(new)))
        return torch.cat([images, new], dim=1)


class Transition(nn.Module):
    """Half the channels and half the image."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, kernel_size=1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C // 2, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(images))), 2)


class DenseNet(nn.Module):
    """Three dense blocks with two transitions between them: (depth - 4) / 6 layers in each block.

    Images are (B, in_channels, H, W), logits (B, num_classes).
    """

    def __init__(self, depth: int, growth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)]
        for block in range(3):
            for _ in range((depth - 4) // 6):
                layers.append(DenseLayer(channels, growth))
                channels += growth
            if block < 2:
                layers.append(Transition(channels))
                channels //= 2
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        features: torch.Tensor = self.pool(self.features(images))  # (B, C, 1, 1)
        logits: torch.Tensor = self.classifier(torch.flatten(features, 1))
        return logits


def densenet_cifar(num_classes: int = 10, in_channels: int = 3) -> DenseNet:
    """DenseNet-BC of 100 layers with growth rate 12: 0.77 M parameters for 10 classes."""
    return DenseNet(100, 12, num_classes, in_channels)
