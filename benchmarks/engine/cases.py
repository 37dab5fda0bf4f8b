"""The models that engines are measured on. To add one, add a name to its family's list.

Every model has random weights; nothing is downloaded. Example inputs are images of 224 pixels in batches of two where
nothing else is said, since a batch norm over a single value cannot train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunetune.testing.hazards import NETWORKS
from prunetune.testing.oracle import randomise


@dataclass(frozen=True)
class Case:
    """A model with random weights, and what it is called with: a tensor, positional or keyword arguments."""

    model: nn.Module
    inputs: Any


@dataclass(frozen=True)
class Family:
    """Names of models, and the function that builds one of them."""

    names: Callable[[], Sequence[str]]
    build: Callable[[str], Case]
    exact: bool = False
    """Whether cuts are compared with the oracle (the model must be in float64)."""
    depths: Mapping[str, tuple[str, int]] | None = None
    """Where cost against depth is wanted: the series that each model belongs to, and its number of layers."""


def _images(size: int = 224, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size)


def _torchvision(module: str) -> Callable[[], Sequence[str]]:
    def names() -> Sequence[str]:
        import importlib

        import torchvision

        return list(torchvision.models.list_models(module=importlib.import_module(module)))

    return names


def _classification(name: str) -> Case:
    import torchvision

    auxiliary = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **auxiliary)
    return Case(model, _images(299 if name == "inception_v3" else 224))


def _segmentation(name: str) -> Case:
    import torchvision

    return Case(torchvision.models.get_model(name, weights=None, weights_backbone=None), _images())


def _video(name: str) -> Case:
    import torchvision

    fixed = name.startswith(("mvit", "swin3d", "s3d"))  # made for clips of this size
    clips = torch.randn(
        1 if fixed and name != "s3d" else 2, 3, 16 if fixed else 8, *((224, 224) if fixed else (112, 112))
    )
    return Case(torchvision.models.get_model(name, weights=None), clips)


def _detection(name: str) -> Case:
    import torchvision

    size = {} if name.startswith("ssd") else {"min_size": 320, "max_size": 320}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **size)
    targets = [
        {
            "boxes": torch.tensor([[10.0, 10.0, 160.0, 160.0], [20.0, 20.0, 300.0, 300.0]]),
            "labels": torch.ones(2, dtype=torch.int64),
            "masks": torch.ones(2, 320, 320, dtype=torch.uint8),
            "keypoints": torch.cat([150 * torch.rand(2, 17, 2) + 10, torch.ones(2, 17, 1)], 2),
        }
        for _ in range(2)
    ]
    return Case(model, ([torch.rand(3, 320, 320) for _ in targets], targets))


TIMM = """
    beit_base_patch16_224 botnet26t_256 caformer_s18 cait_xxs24_224 coat_tiny coatnet_nano_rw_224 convit_tiny
    convmixer_768_32 convnext_atto convnext_zepto_rms convnextv2_atto cpubone_b0_bfrobust crossvit_tiny_240 csatv2
    cspnext_tiny cspresnet50 darknet53 davit_tiny deit3_small_patch16_224 dla46_c ecaresnet26t edgenext_xx_small
    efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientvim_m1 efficientvit_b0 efficientvit_m0
    ese_vovnet19b_slim eva02_tiny_patch14_224 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050
    gmlp_ti16_224 halonet26t hgnet_tiny hiera_tiny_224 hieradet_small hrnet_w18_small iformer_t inception_next_atto
    inception_resnet_v2 inception_v4 lambda_resnet26t lcnetv2_small levit_128s lowformer_b0 mambaout_femto
    maxxvit_rmlp_nano_rw_256 mixer_s32_224 mobilenetv3_small_050 mobilenetv4_conv_small mobilenetv4_hybrid_medium
    mobilenetv5_base mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny naflexvit_base_patch16_gap nest_tiny
    nextvit_small nfnet_l0 pit_ti_224 pnasnet5large poolformer_s12 pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnety_002
    repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s resmlp_12_224 resnest14d resnetblur18 resnetv2_50
    rexnet_100 selecsls42b sequencer2d_s seresnet18 shvit_s1 skresnet18 starnet_s1 swiftformer_xs
    swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_patch16_224
    tresnet_m twins_svt_small visformer_tiny vit_relpos_small_patch16_224 vit_small_patch16_dinov3
    vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224 xception41 xcit_nano_12_p16_224
""".split()  # noqa: SIM905 (a list of this length would have a line a name)


def _timm_names() -> Sequence[str]:
    import timm  # noqa: F401

    return TIMM


def _timm(name: str) -> Case:
    import timm

    model = timm.create_model(name, pretrained=False)
    return Case(model, torch.randn(2, *model.default_cfg["input_size"]))


_BERT = {"num_hidden_layers": 4}
_VIT = {"num_hidden_layers": 4, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
_LLAMA = {
    "vocab_size": 8192,
    "hidden_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "intermediate_size": 2048,
}
_ENCODER_DECODER = {"encoder_layers": 2, "decoder_layers": 2}
_SPECIAL = dict.fromkeys(
    ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id"), 0
)
_TOWER = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("BartForConditionalGeneration", {**_ENCODER_DECODER, "vocab_size": 8192}),
    "bert": ("BertForSequenceClassification", _BERT),
    "clip": ("CLIPModel", {"text_config": {**_TOWER, "vocab_size": 8192}, "vision_config": _TOWER}),
    "convnext": ("ConvNextForImageClassification", {"depths": [1, 1, 3, 1]}),
    "deit": ("DeiTForImageClassification", _VIT),
    "distilbert": ("DistilBertForSequenceClassification", {"n_layers": 4}),
    "detr": ("DetrForObjectDetection", {**_ENCODER_DECODER, "d_model": 128}),
    "gemma3": ("Gemma3ForCausalLM", {**_LLAMA, "head_dim": 64}),
    "gpt2": ("GPT2LMHeadModel", {"n_layer": 4, "vocab_size": 8192}),
    "llama": ("LlamaForCausalLM", _LLAMA),
    "mamba": ("MambaForCausalLM", {"vocab_size": 8192, "num_hidden_layers": 4}),
    "mistral": ("MistralForCausalLM", _LLAMA),
    "mixtral": ("MixtralForCausalLM", {**_LLAMA, "num_local_experts": 4}),
    "modernbert": ("ModernBertForSequenceClassification", {**_BERT, **_SPECIAL, "vocab_size": 8192}),
    "qwen2": ("Qwen2ForCausalLM", _LLAMA),
    "qwen3": ("Qwen3ForCausalLM", {**_LLAMA, "head_dim": 64}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**_LLAMA, "head_dim": 64, "num_experts": 4, "num_experts_per_tok": 2}),
    "roberta": ("RobertaForSequenceClassification", _BERT),
    "segformer": ("SegformerForSemanticSegmentation", {}),
    "swin": ("SwinForImageClassification", {"depths": [2, 2, 2, 2]}),
    "t5": ("T5ForConditionalGeneration", {"num_layers": 4, "decoder_start_token_id": 0}),
    "vit": ("ViTForImageClassification", _VIT),
    "wav2vec2": ("Wav2Vec2ForCTC", {"num_hidden_layers": 4}),
    "whisper": (
        "WhisperForConditionalGeneration",
        {**_ENCODER_DECODER, **_SPECIAL, "vocab_size": 8192, "max_source_positions": 100},
    ),
}
"""Name → class of the model, and what differs from its default configuration: fewer layers, smaller vocabularies."""


def _transformers_names() -> Sequence[str]:
    import transformers  # noqa: F401

    return list(TRANSFORMERS)


def _transformers(name: str) -> Case:
    import transformers

    kind, changes = TRANSFORMERS[name]
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**changes))
    tokens = torch.randint(3, 1000, (2, 32))
    inputs = {
        "input_ids": tokens,
        "decoder_input_ids": tokens,
        "pixel_values": _images(),
        "input_values": torch.randn(2, 8000),  # half a second of sound
        "input_features": torch.randn(2, 80, 200),  # its spectrum, two frames a source position
    }
    main = model.main_input_name
    besides = {"clip": ["pixel_values"], **{key: ["decoder_input_ids"] for key in ("bart", "t5", "whisper")}}
    return Case(model, {key: inputs[key] for key in (main, *besides.get(name, []))})


def _hazard(name: str) -> Case:
    make, inputs = NETWORKS[name]
    return Case(randomise(make(), 0), inputs())


class CifarResNet(nn.Module):
    """He et al. (2015), section 4.2: 6 n + 2 layers in stages of 16, 32 and 64 channels, of torchvision's blocks."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        from torchvision.models.resnet import BasicBlock, conv1x1

        blocks: list[nn.Module] = []
        channels = 16
        for width in (16, 32, 64):
            for _ in range((layers - 2) // 6):
                change = (
                    nn.Sequential(conv1x1(channels, width, 2), nn.BatchNorm2d(width)) if width != channels else None
                )
                blocks.append(BasicBlock(channels, width, 1 if width == channels else 2, change))
                channels = width
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(images)))
        return logits


DEPTHS: dict[str, tuple[str, int]] = {
    "resnet18": ("ResNet-18 of torchvision", 18),
    **{f"resnet{n}": ("ResNets for CIFAR", n) for n in (20, 56, 110, 164, 302, 602, 1202)},
    **{f"densenet{n}": ("DenseNets, growth 12", n) for n in (121, 201, 401, 701, 1001)},
}


def _deep(name: str) -> Case:
    import torchvision

    layers = DEPTHS[name][1]
    if name == "resnet18":
        return Case(torchvision.models.resnet18(num_classes=10), _images(32))
    if name.startswith("resnet"):
        return Case(CifarResNet(layers), _images(32))
    # Two layers a member of a block, three transitions, the stem and the classifier.
    members = (layers - 5) // 2
    blocks = [members // 4 + (i < members % 4) for i in range(4)]
    model = torchvision.models.DenseNet(12, tuple(blocks), num_init_features=24, num_classes=10)
    return Case(model, _images(64))


FAMILIES: dict[str, Family] = {
    "classification": Family(_torchvision("torchvision.models"), _classification),
    "segmentation": Family(_torchvision("torchvision.models.segmentation"), _segmentation),
    "video": Family(_torchvision("torchvision.models.video"), _video),
    "detection": Family(_torchvision("torchvision.models.detection"), _detection),
    "timm": Family(_timm_names, _timm),
    "transformers": Family(_transformers_names, _transformers),
    "hazards": Family(lambda: list(NETWORKS), _hazard, exact=True),
    "depth": Family(lambda: list(DEPTHS), _deep, depths=DEPTHS),
}
