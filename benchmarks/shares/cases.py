"""Networks of kinds that once could hardly be cut: experts, graphs, gathers, spectra, weights made from weights.

Each is made for a `part`, 1 or 2, which divides all widths that a cut can shrink: the network of part 2 says what is
possible at `ratio=0.5`. Weights are random; nothing is downloaded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.engine.cases import Case


@dataclass(frozen=True)
class Kind:
    """How a network is made, and how it is judged."""

    build: Callable[[int], Case]
    zeros: bool = False
    """Whether the judge is the original with zeros for what is gone (whole architectures), or tensors that know it."""
    judged: bool = True


KINDS: dict[str, Kind] = {}


def kind(name: str, **options: Any) -> Callable[[Callable[[int], Case]], Callable[[int], Case]]:
    def register(build: Callable[[int], Case]) -> Callable[[int], Case]:
        KINDS[name] = Kind(build, **options)
        return build

    return register


# -- mixtures of experts, as transformers has them ---------------------------------------------------------------------


def _decoder(name: str, part: int, experts: str, changes: Mapping[str, Any]) -> Case:
    import transformers

    widths = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "moe_intermediate_size": 96}
    widths |= {"q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "v_head_dim": 32}
    numbers = {"vocab_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    numbers |= {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = getattr(transformers, f"{name}ForCausalLM")
    known = vars(model.config_class()) | changes
    values = {**{key: n // part for key, n in widths.items() if key in known}, **numbers, **changes}
    config = model.config_class(**values, num_experts_per_tok=2, experts_implementation=experts)
    tokens = torch.randint(3, 96, (2, 12), generator=torch.Generator().manual_seed(0))
    return Case(model(config), {"input_ids": tokens, "use_cache": False})


EXPERTS: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 8, "head_dim": None},
    "Qwen3Moe": {"num_experts": 8},
    "GptOss": {"num_local_experts": 8},
    "DeepseekV3": {
        "n_routed_experts": 8,
        "head_dim": 8,
        "num_key_value_heads": 4,
        "n_group": 2,
        "topk_group": 1,
        "qk_rope_head_dim": 8,
        "first_k_dense_replace": 1,
    },
}


def _experts(name: str, implementation: str, dtype: torch.dtype) -> Callable[[int], Case]:
    def build(part: int) -> Case:
        case = _decoder(name, part, implementation, EXPERTS[name])
        return Case(case.model.to(dtype), case.inputs)

    return build


for _name in EXPERTS:
    KINDS[f"{_name}, one by one"] = Kind(_experts(_name, "eager", torch.float64), zeros=True)
    KINDS[f"{_name}, grouped_mm"] = Kind(_experts(_name, "grouped_mm", torch.bfloat16), judged=False)


# -- tokens that are gathered, spectra ---------------------------------------------------------------------------------


@kind("masked autoencoder", zeros=True)
def masked_autoencoder(part: int) -> Case:
    """He et al. (2021) in transformers: a quarter of the tokens is gathered, all are put back by another gather."""
    import transformers

    config = transformers.ViTMAEConfig(
        hidden_size=96 // part,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=384 // part,
        decoder_hidden_size=64 // part,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=256 // part,
        image_size=32,
        patch_size=8,
    )
    model = transformers.ViTMAEForPreTraining(config)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 16, generator=generator)
    return Case(model, {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator), "noise": noise})


@kind("FNet", judged=False)
def fnet(part: int) -> Case:
    """Lee-Thorp et al. (2021): its Fourier transform goes over the stream's channels too, which therefore stay.

    The pooler's width can shrink beside, which no configuration of the network says.
    """
    import transformers

    config = transformers.FNetConfig(
        vocab_size=96, hidden_size=96, num_hidden_layers=2, intermediate_size=384 // part, max_position_embeddings=64
    )
    return Case(transformers.FNetForSequenceClassification(config), {"input_ids": torch.randint(3, 96, (2, 12))})


class GlobalFilter(nn.Module):
    """Rao et al. (2021): tokens are mixed by a product in the frequency domain, channel by channel."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.filter = nn.Parameter(torch.randn(size, size // 2 + 1, width, 2) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1:3]
        spectrum = torch.fft.rfft2(self.norm(x), dim=(1, 2), norm="ortho") * torch.view_as_complex(self.filter)
        mixed = torch.fft.irfft2(spectrum, s=size, dim=(1, 2), norm="ortho")
        out: Tensor = x + self.down(F.gelu(self.up(mixed)))
        return out


@kind("global filter network")
def global_filter_network(part: int) -> Case:
    width = 48 // part
    layers = [GlobalFilter(width, 8) for _ in range(3)]
    return Case(nn.Sequential(nn.Linear(4, width), *layers, nn.Linear(width, 2)), torch.randn(2, 8, 8, 4))


class SpectralConvolution(nn.Module):
    """Li et al. (2020), section 4: a matrix of complex weights for each of the lowest frequencies."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes, shape = modes, (width, width, modes, modes)
        self.low = nn.Parameter(torch.randn(*shape, dtype=torch.cdouble) / width)
        self.high = nn.Parameter(torch.randn(*shape, dtype=torch.cdouble) / width)

    def forward(self, x: Tensor) -> Tensor:
        spectrum, m = torch.fft.rfft2(x), self.modes
        out = torch.zeros(
            x.shape[0], self.low.shape[1], x.shape[2], x.shape[3] // 2 + 1, dtype=spectrum.dtype, device=x.device
        )
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :m, :m], self.low)
        out[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -m:, :m], self.high)
        return torch.fft.irfft2(out, s=x.shape[-2:])


class FourierOperator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lift, self.project, self.out = (
            nn.Conv2d(3, width, 1),
            nn.Conv2d(width, 2 * width, 1),
            nn.Conv2d(2 * width, 1, 1),
        )
        self.spectral = nn.ModuleList(SpectralConvolution(width, 3) for _ in range(3))
        self.local = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        for spectral, local in zip(self.spectral, self.local, strict=True):
            x = F.gelu(spectral(x) + local(x))
        out: Tensor = self.out(F.gelu(self.project(x)))
        return out


@kind("Fourier neural operator", zeros=True)
def fourier_neural_operator(part: int) -> Case:
    return Case(FourierOperator(24 // part), torch.randn(2, 3, 12, 12))


# -- graphs ------------------------------------------------------------------------------------------------------------


class MessagePassing(nn.Module):
    """Gilmer et al. (2017): messages along edges, summed at their ends, in the three ways that people write."""

    def __init__(self, width: int, way: str) -> None:
        super().__init__()
        self.message, self.update, self.way = nn.Linear(2 * width, width), nn.Linear(2 * width, width), way

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        messages = self.message(torch.cat([x[source], x.index_select(0, target)], -1)).relu()
        zeros = torch.zeros_like(x)
        if self.way == "index_add":
            summed = zeros.index_add(0, target, messages)
        elif self.way == "scatter_add":
            summed = zeros.scatter_add(0, target[:, None].expand(-1, messages.shape[1]), messages)
        else:
            index = target[:, None].expand_as(messages)
            summed = zeros.scatter_reduce(0, index, messages, reduce="amax", include_self=False)
        out: Tensor = x + self.update(torch.cat([x, summed], -1))
        return out


class GraphNetwork(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(
            MessagePassing(width, way) for way in ("index_add", "scatter_add", "scatter_reduce")
        )

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x, edges)
        out: Tensor = self.head(x)
        return out


@kind("graph network")
def graph_network(part: int) -> Case:
    edges = torch.randint(0, 9, (2, 30), generator=torch.Generator().manual_seed(0))
    return Case(GraphNetwork(32 // part), (torch.randn(9, 5), edges))


# -- weights that are computed -----------------------------------------------------------------------------------------


class Modulated(nn.Module):
    """Karras et al. (2019), section 2.2: filters scaled by a style and demodulated, one set for each sample."""

    def __init__(self, inputs: int, out: int, style: int) -> None:
        super().__init__()
        self.weight, self.affine = nn.Parameter(torch.randn(1, out, inputs, 3, 3)), nn.Linear(style, inputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        weight = self.weight * (self.affine(style)[:, None, :, None, None] + 1)
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        out = weight.shape[1]
        x = x.reshape(1, batch * channels, height, width)
        weight = weight.reshape(batch * out, channels, 3, 3)
        x = F.conv2d(x, weight, padding=1, groups=batch)
        return F.leaky_relu(x.reshape(batch, out, height, width), 0.2)


class Generator(nn.Module):
    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(8, style), nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2))
        self.start = nn.Parameter(torch.randn(1, width, 4, 4))
        widths = (width, width, width // 2)
        self.layers = nn.ModuleList(Modulated(a, b, style) for a, b in itertools.pairwise(widths))
        self.to_image = nn.Conv2d(width // 2, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        style = self.mapping(z)
        x = self.start.expand(z.shape[0], -1, -1, -1)
        for layer in self.layers:
            x = layer(F.interpolate(x, scale_factor=2), style)
        out: Tensor = self.to_image(x)
        return out


@kind("StyleGAN2's generator")
def stylegan2(part: int) -> Case:
    return Case(Generator(32 // part, 24 // part), torch.randn(2, 8))


class Dynamic(nn.Module):
    """Chen et al. (2019): a mixture of four filter banks, its weights computed from the input."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.weight, self.attention = nn.Parameter(torch.randn(4, out, inputs, 3, 3) * 0.1), nn.Linear(inputs, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        share = self.attention(x.mean((2, 3))).softmax(-1)
        out, inputs = self.weight.shape[1:3]
        weight = torch.mm(share, self.weight.view(4, -1)).view(batch * out, inputs, 3, 3)
        x = F.conv2d(x.reshape(1, batch * channels, height, width), weight, padding=1, groups=batch)
        return x.view(batch, out, height, width).relu()


@kind("dynamic convolutions")
def dynamic_convolutions(part: int) -> Case:
    a, b = 16 // part, 24 // part
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(a, 3))
    return Case(nn.Sequential(nn.Conv2d(3, a, 1), Dynamic(a, b), Dynamic(b, a), head), torch.randn(2, 3, 6, 6))


class Splines(nn.Module):
    """Liu et al. (2024), a layer of a Kolmogorov-Arnold network, as its usual fast form computes it."""

    def __init__(self, inputs: int, out: int, grid: int = 5, order: int = 3) -> None:
        super().__init__()
        self.inputs, self.out, self.order = inputs, out, order
        steps = torch.arange(-order, grid + order + 1, dtype=torch.float32) * (2 / grid) - 1
        self.register_buffer("grid", steps.expand(inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(out, inputs) / math.sqrt(inputs))
        self.spline = nn.Parameter(torch.randn(out, inputs, grid + order) * 0.1)
        self.scaler = nn.Parameter(torch.randn(out, inputs))

    def splines(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(-1)
        bases = ((x >= self.grid[:, :-1]) & (x < self.grid[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - self.grid[:, : -(k + 1)]) / (self.grid[:, k:-1] - self.grid[:, : -(k + 1)])
            right = (self.grid[:, k + 1 :] - x) / (self.grid[:, k + 1 :] - self.grid[:, 1:-k])
            bases = left * bases[:, :, :-1] + right * bases[:, :, 1:]
        return bases.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(F.silu(x), self.base)
        weight = self.spline * self.scaler.unsqueeze(-1)
        return base + F.linear(self.splines(x).view(x.size(0), -1), weight.view(self.out, -1))


@kind("Kolmogorov-Arnold network")
def kolmogorov_arnold(part: int) -> Case:
    a, b = 16 // part, 24 // part
    return Case(nn.Sequential(Splines(4, a), Splines(a, b), Splines(b, 2)), torch.randn(6, 4))


class Aligned(nn.Module):
    """Qi et al. (2017), PointNet: features are multiplied by a matrix that is computed from them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.width = width
        self.up, self.down = nn.Conv1d(width, inner, 1), nn.Linear(inner, width * width)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.down(self.up(x).relu().amax(2)).view(-1, self.width, self.width)
        return torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1)


@kind("PointNet")
def pointnet(part: int) -> Case:
    """The matrices' sizes stay: what makes them is a product of two widths."""
    a, b = 32 // part, 64 // part
    layers = (Aligned(3, a), nn.Conv1d(3, 8, 1), nn.ReLU(), Aligned(8, a), nn.Conv1d(8, b, 1), nn.ReLU())
    return Case(nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(b, 4)), torch.randn(2, 3, 20))


class Standardised(nn.Conv2d):
    """Qiao et al. (2019), written out."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


@kind("standardised weights")
def standardised_weights(part: int) -> Case:
    a, b = 16 // part, 32 // part
    layers = (Standardised(3, a, 3, padding=1), nn.ReLU(), Standardised(a, b, 3), nn.ReLU(), Standardised(b, a, 3))
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(a, 3))
    return Case(nn.Sequential(*layers, *head), torch.randn(2, 3, 8, 8))


class LowRank(nn.Module):
    """A matrix with an update of low rank that is merged when it is used, as LoRA's."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, inputs) / math.sqrt(inputs))
        self.up, self.down = nn.Parameter(torch.randn(out, 4)), nn.Parameter(torch.randn(4, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + 0.25 * self.up @ self.down)


@kind("merged low rank")
def merged_low_rank(part: int) -> Case:
    a, b = 32 // part, 48 // part
    return Case(nn.Sequential(LowRank(6, a), nn.ReLU(), LowRank(a, b), nn.ReLU(), LowRank(b, 3)), torch.randn(4, 6))


class Binary(nn.Module):
    """Wang et al. (2023), BitNet: signs, and one scale."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, inputs) / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean()
        binary = (self.weight - self.weight.mean()).sign() * scale
        return F.linear(x, self.weight + (binary - self.weight).detach())


@kind("binary weights")
def binary_weights(part: int) -> Case:
    a, b = 32 // part, 48 // part
    return Case(nn.Sequential(Binary(6, a), nn.ReLU(), Binary(a, b), nn.ReLU(), Binary(b, 3)), torch.randn(4, 6))
