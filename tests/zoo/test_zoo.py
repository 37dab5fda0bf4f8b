"""The zoo's networks: published sizes, worked out by hand, and the shapes that they accept and return."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from benchmarks.common.densenet import densenet_cifar
from benchmarks.common.shufflenetv2 import shufflenetv2
from prunetune.zoo import Builder
from prunetune.zoo import models as zoo
from prunetune.zoo.resnet import ResNet, ZeroPadding

models: dict[str, Builder] = {
    **{name: zoo[name] for name in zoo},
    "densenet-cifar": densenet_cifar,
    "shufflenetv2": shufflenetv2,
}
"""The zoo's, and two that only benchmarks and tests need."""


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def conv_bn(widths: list[int]) -> int:
    """Parameters of 3 x 3 convolutions without bias through these channels, each with its batch norm."""
    return sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))


VGG16 = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


def vgg16_by_hand() -> int:
    return conv_bn(VGG16) + 512 * 10 + 10


def resnet_by_hand(n: int) -> int:
    """2n convolutions a stage; the first of a stage comes from the stage before; shortcuts cost nothing."""
    return conv_bn([3, *[16] * (2 * n + 1), *[32] * (2 * n), *[64] * (2 * n)]) + 64 * 10 + 10


def densenet_bc_by_hand() -> int:
    """16 layers a block, growth 12: norm, 1 x 1 to 48, norm, 3 x 3 to 12; two transitions: norm, 1 x 1 to half."""
    total, channels = 3 * 24 * 9, 24
    for block in range(3):
        for _ in range(16):
            total += 2 * channels + 48 * channels + 2 * 48 + 9 * 48 * 12
            channels += 12
        if block < 2:
            total += 2 * channels + channels * channels // 2
            channels //= 2
    return total + 2 * channels + 10 * channels + 10


SIZES = [
    ("vgg11-bn", conv_bn([3, 64, 128, 256, 256, 512, 512, 512, 512]) + 5130, 9.2, 1),
    ("vgg16-bn", vgg16_by_hand(), 14.7, 1),  # Liu et al. 2017 and many others
    ("vgg19-bn", vgg16_by_hand() + conv_bn([256, 256]) + 2 * conv_bn([512, 512]), 20.0, 1),
    ("resnet8", resnet_by_hand(1), 0.08, 2),
    ("resnet14", resnet_by_hand(2), 0.17, 2),
    ("resnet20", resnet_by_hand(3), 0.27, 2),  # He et al. 2015, table 6
    ("resnet32", resnet_by_hand(5), 0.46, 2),
    ("resnet56", resnet_by_hand(9), 0.85, 2),
    ("resnet110", resnet_by_hand(18), 1.7, 1),
    # torchvision's published count for 1,000 classes, less 990 rows of the classifier and their biases
    ("mobilenetv2", 3_504_872 - 990 * (1280 + 1), 2.24, 2),
    ("shufflenetv2", 2_278_604 - 990 * (1024 + 1), 1.26, 2),
    ("densenet-cifar", densenet_bc_by_hand(), 0.8, 1),  # Huang et al. 2016, table 2: 0.8 M
]


@pytest.mark.parametrize(("name", "by_hand", "published_millions", "decimals"), SIZES)
def test_size_is_the_published_one(name: str, by_hand: int, published_millions: float, decimals: int) -> None:
    count = parameters(models[name](10, 3))
    assert count == by_hand
    assert round(count / 1e6, decimals) == published_millions


def test_every_model_has_a_size_above() -> None:
    assert set(models) == {name for name, *_ in SIZES}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("mobilenetv2", torchvision.models.mobilenet_v2),
        ("shufflenetv2", torchvision.models.shufflenet_v2_x1_0),
    ],
)
def test_weights_have_the_shapes_of_torchvisions_network(ours: str, theirs: object) -> None:
    def shapes(model: nn.Module) -> list[tuple[int, ...]]:
        return sorted(tuple(parameter.shape) for parameter in model.parameters())

    assert callable(theirs)
    assert shapes(models[ours](10, 3)) == shapes(theirs(num_classes=10))


@pytest.mark.parametrize("size", [14, 16, 28, 32, 64])
@pytest.mark.parametrize("name", models)
def test_maps_images_to_logits(name: str, size: int) -> None:
    model = models[name](7, 1).eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, 1, size, size))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("name", models)
def test_a_training_step_reaches_every_parameter_and_the_copy_does_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = models[name](3, 3).train()
    twin = copy.deepcopy(model)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    for each in (model, twin):
        torch.autograd.backward(F.cross_entropy(each(images), labels))
    for (key, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None, key
        assert other.grad is not None
        torch.testing.assert_close(parameter.grad, other.grad)


def test_vgg_at_32_pixels_is_the_standard_one() -> None:
    """Without the roundings that smaller images need, nothing is different."""
    model = models["vgg16-bn"](10, 3).eval()
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    plain.pool = nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images), rtol=0, atol=0)


def test_shortcut_of_option_a_subsamples_and_pads_with_zeros() -> None:
    images = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    out = ZeroPadding(stride=2)(images, torch.empty(1, 5, 2, 2))
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]]
    assert out[0, 1].tolist() == [[16, 18], [24, 26]]
    assert not out[0, 2:].any()


def test_resnet_widths_are_read_when_the_block_runs() -> None:
    """Cut by hand, as surgery would: only weights change, and the shortcut follows."""
    model = models["resnet8"](10, 3).eval()
    assert isinstance(model, ResNet)
    block = model.stages[1][0]  # type: ignore[index]
    keep = torch.cat([torch.arange(16), torch.tensor([20, 31])])  # the 16 that the shortcut brings, and two more
    block.conv2.weight = nn.Parameter(block.conv2.weight[keep])
    for tensor in ("weight", "bias"):
        setattr(block.bn2, tensor, nn.Parameter(getattr(block.bn2, tensor)[keep]))
    for tensor in ("running_mean", "running_var"):
        setattr(block.bn2, tensor, getattr(block.bn2, tensor)[keep])
    assert block(torch.randn(1, 16, 8, 8)).shape == (1, 18, 4, 4)
