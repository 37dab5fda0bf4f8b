"""Networks with residual blocks, and by hand what their blocks add; the oracle of bypassing sets that to zero."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torchvision
from torch import nn

from prunetune.engine import (
    Block,
    residual_blocks,
)
from prunetune.testing.oracle import outputs, randomise
from prunetune.zoo import models as zoo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own making
    import timm
    import transformers

Names = Sequence[str]


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer(
        [2, 2], 16, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.2, num_classes=5
    )


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 3, 4, 64, 96, num_classes=10)


def convnext() -> nn.Module:
    setting = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([setting(16, 32, 2), setting(32, None, 2)], 0.3, num_classes=5)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
    )
    return transformers.LlamaForCausalLM(config)


def named(pattern: str, *numbers: Iterable[int]) -> list[str]:
    """
    >>> named("layer{}.{}", (0, 2), (1,))
    ['layer1.0', 'layer1.2', 'layer2.1']
    """
    return [pattern.format(i, j) for i, js in enumerate(numbers, start=1) for j in js]


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return functools.partial(timm.create_model, name, num_classes=5, **options)


# How it is built, its blocks, the layers of a block that make what it adds, and the size of its images.
MODELS: dict[str, tuple[Callable[[], nn.Module], Names, Names, int]] = {
    "resnet18": (torchvision.models.resnet18, named("layer{}.{}", (0, 1), (1,), (1,), (1,)), ["bn2"], 32),
    "resnet50": (
        torchvision.models.resnet50,
        named("layer{}.{}", (1, 2), (1, 2, 3), (1, 2, 3, 4, 5), (1, 2)),
        ["bn3"],
        32,
    ),
    "zoo resnet56": (
        zoo["resnet56"],
        [f"stages.0.{i}" for i in range(9)] + [f"stages.{s}.{i}" for s in (1, 2) for i in range(1, 9)],
        ["bn2"],
        16,
    ),
    "mobilenet_v2": (
        torchvision.models.mobilenet_v2,
        [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)],
        ["conv.3"],
        32,
    ),
    "convnext": (convnext, [f"features.{s}.{i}" for s in (1, 3) for i in (0, 1)], ["block.5"], 32),
    "vit": (
        vit,
        [f"encoder.layers.encoder_layer_{i}" for i in range(3)],
        ["self_attention.out_proj", "mlp.3"],
        32,
    ),
    "swin": (swin, [f"features.{s}.{i}" for s in (1, 3) for i in (0, 1)], ["attn.proj", "mlp.3"], 16),
    "timm vit": (
        timm_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, init_values=0.1, drop_path_rate=0.2),
        ["blocks.0", "blocks.1"],
        ["attn.proj", "mlp.fc2"],
        32,
    ),
    "timm resnetv2": (
        timm_model("resnetv2_50", layers=(2, 2), channels=(16, 32), stem_chs=8),
        ["stages.0.blocks.1", "stages.1.blocks.1"],
        ["conv3"],
        32,
    ),
    "timm swin": (
        timm_model(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4)
        ),
        [f"layers.{s}.blocks.{i}" for s in (0, 1) for i in (0, 1)],
        ["attn.proj", "mlp.fc2"],
        32,
    ),
    "llama": (llama, [f"model.layers.{i}" for i in range(3)], ["self_attn.o_proj", "mlp.down_proj"], 0),
}


@functools.cache
def built(name: str) -> tuple[nn.Module, Any]:
    """The model in float64 with random weights, and its input; not to be changed."""
    build, _, _, size = MODELS[name]
    torch.manual_seed(0)
    model = randomise(build(), 0)
    return model, torch.randn(2, 3, size, size, dtype=torch.float64) if size else torch.randint(0, 50, (2, 8))


@functools.cache
def blocks_of(name: str) -> tuple[Block, ...]:
    model, x = built(name)
    return residual_blocks(model, x)


def silenced(model: nn.Module, blocks: Iterable[str], layers: Names) -> nn.Module:
    """The original with zeros for what the branches of these blocks add."""
    original = copy.deepcopy(model)
    with torch.no_grad():
        for block in blocks:
            for layer in layers:
                for parameter in original.get_submodule(f"{block}.{layer}").parameters():
                    parameter.zero_()
    return original


def difference(one: nn.Module, other: nn.Module, x: Any) -> float:
    """The largest, relative to the largest number, which is not zero; both models draw the same random numbers."""
    torch.manual_seed(1)
    expected = outputs(one, x)[0]
    torch.manual_seed(1)
    actual = outputs(other, x)[0]
    assert expected.shape == actual.shape
    assert float(expected.abs().max()) > 0
    return float((expected - actual).abs().max() / expected.abs().max())
