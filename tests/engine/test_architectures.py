"""Architectures as people use them (timm, transformers, torchvision), cut to half width, against the oracle.

The whole list, with the rivals beside it, is the benchmark's: `python -m benchmarks.engine`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune import PruneResult, prune
from prunetune.engine import call_arguments
from prunetune.testing.oracle import error_of_architecture, randomise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own making
    import timm
    import transformers

SMALL = 64
TIMM = {  # name: image size
    **dict.fromkeys(("resnetv2_50", "resnetv2_50x1_bit", "regnetx_002", "regnety_002", "efficientnet_b0"), SMALL),
    **dict.fromkeys(("mobilenetv3_small_050", "mobilenetv4_conv_small", "convnext_atto", "ghostnet_050"), SMALL),
    **dict.fromkeys(("densenet121", "dla46_c", "hrnet_w18_small", "repvgg_a0", "nfnet_l0", "cspresnet50"), SMALL),
    **dict.fromkeys(("ese_vovnet19b_slim", "res2net50_14w_8s", "selecsls42b", "skresnet18"), SMALL),
    **dict.fromkeys(("mobileone_s0", "fastvit_t8", "poolformer_s12", "seresnet18", "resnest14d", "starnet_s1"), SMALL),
    **dict.fromkeys(("rexnet_100", "mobilevit_xxs", "mambaout_femto", "pvt_v2_b0", "hardcorenas_a", "dpn48b"), SMALL),
    **dict.fromkeys(("vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "levit_128s"), 224),
    **dict.fromkeys(("swin_tiny_patch4_window7_224", "crossvit_tiny_240", "eva02_tiny_patch14_224"), None),
    **dict.fromkeys(("maxvit_rmlp_pico_rw_256", "coat_lite_tiny", "efficientvit_m0"), None),
    "xception41p": 32,
}
SEES_CHANNELS = {  # a response normalisation over channels, or a softmax over them: it sees only those that stay
    **dict.fromkeys(("convnextv2_atto", "edgenext_xx_small"), SMALL),
    "xcit_nano_12_p16_224": 224,
}
FIXED_BY_DESIGN = {  # share of layers that can shrink; tokens are mixed by weights whose outputs are places
    "gmlp_ti16_224": 0.67,
    "resmlp_12_224": 0.68,
    "edgenext_xx_small": 0.75,  # a width that its code splits into unequal parts
    "xcit_nano_12_p16_224": 0.85,
}
WIDTH = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TOKENS = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def bert() -> nn.Module:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**TOKENS, **WIDTH))


def vit() -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**WIDTH, image_size=32, patch_size=8))


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(**TOKENS, n_embd=64, n_layer=2, n_head=4)
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TOKENS, **WIDTH, num_key_value_heads=2))


TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {"bert": bert, "vit": vit, "gpt2": gpt2, "llama": llama}
TORCHVISION: dict[str, int] = {
    **dict.fromkeys(("efficientnet_b0", "mnasnet0_5", "mobilenet_v3_small", "regnet_x_400mf", "squeezenet1_1"), SMALL),
    **dict.fromkeys(("convnext_tiny", "shufflenet_v2_x1_0", "resnet50", "regnet_y_400mf"), SMALL),
    **dict.fromkeys(("googlenet", "swin_t"), 224),
    "inception_v3": 299,
}


def image(size: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64)


def prune_to_half(model: nn.Module, inputs: Any, least: float = 0.9) -> PruneResult:
    """Cut, and see that the layers shrank."""
    result = prune(model, inputs, scorer="random", ratio=0.5)
    layers = [layer for layer in result.layers if layer.name.endswith("weight")]
    shrunk = [layer for layer in layers if layer.before != layer.after]
    assert len(shrunk) >= least * len(layers), (len(shrunk), len(layers), result.frozen)
    assert result.model.training is model.training
    return result


def train_a_step(model: nn.Module, inputs: Any) -> None:
    """Forward and backward in training mode; every part of the loss reaches a weight."""
    args, kwargs = call_arguments(inputs)
    with torch.enable_grad():
        leaves = pytree.tree_leaves(model.train()(*args, **kwargs))
        outputs = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
        torch.stack([out.square().mean() for out in outputs]).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)


@pytest.mark.parametrize("name", list(dict.fromkeys((*TIMM, *FIXED_BY_DESIGN, *SEES_CHANNELS))))
def test_timm(name: str) -> None:
    size = {**TIMM, **SEES_CHANNELS}.get(name)
    model = randomise(timm.create_model(name, num_classes=10, pretrained=False), 0)
    inputs = image(size or model.default_cfg["input_size"][-1])
    result = prune_to_half(model, inputs, FIXED_BY_DESIGN.get(name, 0.9))
    if name not in SEES_CHANNELS:
        assert error_of_architecture(model, result.model, result.plan, inputs) < 1e-9
    train_a_step(result.model, inputs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    model = randomise(TRANSFORMERS[name](), 0)
    tokens = torch.randint(3, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    inputs = {"pixel_values": image(32)} if name == "vit" else {"input_ids": tokens, "use_cache": False}
    if name == "bert":
        del inputs["use_cache"]
    result = prune_to_half(model, inputs)
    heads = [g for g in result.groups if "attn" in g.name or "attention" in g.name]
    assert heads, "nothing of the attentions can be cut"
    assert all(g.after == g.before // 2 for g in heads)
    assert error_of_architecture(model, result.model, result.plan, inputs) < 1e-9
    train_a_step(result.model, inputs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = randomise(torchvision.models.get_model(name, weights=None, **options), 0)
    holds_at_half_width(model, image(TORCHVISION[name]))


@pytest.mark.filterwarnings("ignore")
def test_torchvisions_vision_transformer() -> None:
    model = randomise(torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 96, num_classes=10), 0)
    holds_at_half_width(model, image(32))


def holds_at_half_width(model: nn.Module, inputs: Tensor) -> None:
    result = prune_to_half(model, inputs)
    assert error_of_architecture(model, result.model, result.plan, inputs) < 1e-9
    train_a_step(result.model, inputs)
