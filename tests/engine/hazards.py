"""Small networks with one structural hazard each. `NETWORKS`: name → (factory, example inputs)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {}
REFUSED = {"IndexSelect": "index_select", "WritesInPlace": "__setitem__", "NoRule": "renorm"}
"""Networks of which nothing can be cut, and the operation that must be named for it."""


def image(channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tokens() -> Tensor:
    return torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def vectors() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(inputs: Callable[[], Any] = image, name: str | None = None) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def register(cls: type[nn.Module]) -> type[nn.Module]:
        NETWORKS[name or cls.__name__] = (cls, inputs)
        return cls

    return register


class Head(nn.Module):
    """Mean over places, then a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


def stem(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class Body(nn.Module):
    """A stem, what is tested (`body`), and a head."""

    def __init__(self, width: int, out: int | None = None) -> None:
        super().__init__()
        self.stem = stem(width)
        self.head = Head(out or width)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError


# -- joining -----------------------------------------------------------------------------------------------------------


@network()
class CatWithItself(Body):
    def __init__(self) -> None:
        super().__init__(6, 12)

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


@network()
class CatJoinedByResidual(Body):
    def __init__(self) -> None:
        super().__init__(6, 10)
        self.a, self.b = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 10, 1)

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.a(x)], 1) + self.b(x)


@network()
class TwoGroupCountsOnOneResidual(Body):
    def __init__(self) -> None:
        super().__init__(12)
        self.a, self.b = nn.Conv2d(12, 12, 3, padding=1, groups=3), nn.Conv2d(12, 12, 3, padding=1, groups=2)

    def body(self, x: Tensor) -> Tensor:
        return x + self.a(x) + self.b(x)


@network()
class Stack(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a = nn.Conv2d(6, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return torch.stack([x, self.a(x)], dim=1).sum(1)


@network()
class SplitAttention(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.branches = nn.Conv2d(6, 12, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 12)

    def body(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        u = self.branches(x).view(b, 2, c, h, w)
        a = self.fc2(self.fc1(u.sum(1).mean((2, 3))).relu()).view(b, 2, c).softmax(1)
        return (u * a[..., None, None]).sum(1)


@network()
class Maxout(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a = nn.Conv2d(6, 12, 1)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return y.view(y.shape[0], 2, y.shape[1] // 2, *y.shape[2:]).amax(1)


@network()
class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = stem(8), Head(8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.stem(x)
        return {"class": self.a(y), "mask": self.b(y)}


# -- parts -------------------------------------------------------------------------------------------------------------


@network()
class UnequalChunks(Body):
    def __init__(self) -> None:
        super().__init__(10)
        self.a, self.b, self.c = nn.Conv2d(4, 10, 1), nn.Conv2d(4, 10, 1), nn.Conv2d(2, 10, 1)

    def body(self, x: Tensor) -> Tensor:
        p, q, r = x.chunk(3, 1)
        return self.a(p) + self.b(q) + self.c(r)


@network()
class SplitIntoSections(Body):
    def __init__(self) -> None:
        super().__init__(10)
        self.sizes = (4, 6)
        self.a, self.b = nn.Conv2d(4, 10, 1), nn.Conv2d(6, 10, 1)

    def body(self, x: Tensor) -> Tensor:
        p, q = torch.split(x, self.sizes, 1)
        return self.a(p) + self.b(q)


@network()
class C2f(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.c = 4
        self.cv1, self.cv2 = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)
        self.m = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def body(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


@network()
class C2fByChunk(C2f):
    def body(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


@network()
class Slices(Body):
    def __init__(self) -> None:
        super().__init__(8, 5)
        self.a = nn.Conv2d(3, 5, 1)

    def body(self, x: Tensor) -> Tensor:
        return x[:, 3:] + self.a(x[:, :3])


@network()
class IndexSelect(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 1)
        self.register_buffer("order", torch.tensor([7, 0, 6, 1, 5, 2, 4, 3]))

    def body(self, x: Tensor) -> Tensor:
        return self.a(x).relu() + x.index_select(1, self.order)


@network()
class Flip(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return x + self.a(x).flip(1)


@network()
class Roll(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(x).relu() + x.roll(2, 1)


@network()
class RepeatInterleave(Body):
    def __init__(self) -> None:
        super().__init__(6, 12)

    def body(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=1)


@network()
class Glu(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a = nn.Conv2d(6, 12, 1)

    def body(self, x: Tensor) -> Tensor:
        return F.glu(self.a(x), 1)


# -- shuffles ----------------------------------------------------------------------------------------------------------


@network()
class ShuffleBlock(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(4, 4, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        p, q = x.chunk(2, 1)
        y = torch.cat([p, self.a(q)], 1)
        b, c, h, w = y.shape
        return y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


@network()
class ShuffleWithoutSplit(Body):
    def __init__(self) -> None:
        super().__init__(12)
        self.a, self.b = nn.Conv2d(12, 12, 1, groups=3), nn.Conv2d(12, 12, 1, groups=3)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        b, c, h, w = y.shape
        y = y.view(b, 3, c // 3, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return self.b(y) + x


@network()
class ShuffleModule(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.shuffle = nn.Conv2d(8, 8, 1), nn.ChannelShuffle(2)

    def body(self, x: Tensor) -> Tensor:
        return self.shuffle(self.a(x)) + x


@network()
class PixelShuffle(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.up, self.b = nn.Conv2d(8, 24, 1), nn.PixelShuffle(2), nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.up(self.a(x)))


@network()
class PixelUnshuffle(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.down, self.b = nn.PixelUnshuffle(2), nn.Conv2d(24, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.down(x))


@network()
class SpaceToDepth(Body):
    def __init__(self) -> None:
        super().__init__(5, 5)
        self.b = nn.Conv2d(20, 5, 1)

    def body(self, x: Tensor) -> Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.b(torch.cat(parts, 1))


@network()
class PatchMerging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.head = stem(6), nn.Linear(24, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.head(self.reduce(x).relu().mean((1, 2)))


# -- convolutions ------------------------------------------------------------------------------------------------------


@network()
class DepthwiseMultiplier(Body):
    def __init__(self) -> None:
        super().__init__(6, 12)
        self.a = nn.Conv2d(6, 12, 3, padding=1, groups=6)

    def body(self, x: Tensor) -> Tensor:
        return self.a(x)


@network()
class GroupedAfterCat(Body):
    def __init__(self) -> None:
        super().__init__(6, 8)
        self.a, self.b = nn.Conv2d(6, 6, 1), nn.Conv2d(12, 8, 3, groups=4)

    def body(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([x, self.a(x)], 1))


@network(lambda: torch.randn(2, 3, 16, dtype=torch.float64))
class Convolution1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 8, 3, groups=2)
        self.norm, self.c = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(self.b(self.a(x).relu())).mean(2))


@network(lambda: torch.randn(2, 3, 5, 6, 7, dtype=torch.float64))
class Convolution3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv3d(3, 8, 3), nn.Conv3d(8, 8, 3, groups=4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.adaptive_avg_pool3d(self.b(self.a(x).relu()), 1).flatten(1))


@network()
class Transposed(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.b = nn.ConvTranspose2d(6, 8, 2, stride=2)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class TransposedGroups(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)
        self.b = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class WeightNorm(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = parametrizations.weight_norm(nn.Conv2d(8, 6, 3))
        self.b = nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class SpectralNorm(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.b = parametrizations.spectral_norm(nn.Conv2d(8, 6, 3)), nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@network()
class BareParameter(Body):
    matrices = ("weight",)

    def __init__(self) -> None:
        super().__init__(8)
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.b = nn.Conv2d(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1) @ self.weight
        return self.b(y.permute(0, 3, 1, 2).relu())


@network()
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ParameterDict(
            {"a": torch.randn(8, 3, 3, 3), "b": torch.randn(8, 8, 3, 3), "c": torch.randn(3, 8), "s": torch.ones(8)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.w["a"], padding=1)) * self.w["s"][None, :, None, None]
        x = F.relu(F.conv2d(x, self.w["b"], padding=1)) + x
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), self.w["c"])


# -- normalisations and gates ------------------------------------------------------------------------------------------


@network()
class GroupNorm(Body):
    def __init__(self) -> None:
        super().__init__(12)
        self.a, self.norm = nn.Conv2d(12, 12, 1), nn.GroupNorm(3, 12)

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.a(x))


@network()
class SqueezeExcitationByConvolution(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return x * self.b(self.a(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()


@network()
class SqueezeExcitationByLinear(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 8)

    def body(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.b(self.a(x.mean((2, 3)).view(b, c)).relu()).sigmoid().view(b, c, 1, 1).expand_as(x)


@network()
class Eca(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.inner, self.a = nn.Conv2d(8, 8, 1), nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.unsqueeze = nn.Conv2d(4, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        y = self.unsqueeze(self.squeeze(x))
        g = self.a(y.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1).sigmoid()
        return y * g


@network()
class Prelu(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.act = nn.Conv2d(8, 8, 1), nn.PReLU(8)

    def body(self, x: Tensor) -> Tensor:
        return self.act(self.a(x))


@network()
class LayerScale(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.gamma = nn.Conv2d(8, 8, 1), nn.Parameter(torch.ones(8, 1, 1))

    def body(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.a(x)


@network()
class ChannelsLastLayerNorm(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.norm = nn.Conv2d(8, 8, 1), nn.LayerNorm(8)

    def body(self, x: Tensor) -> Tensor:
        return x + self.norm(self.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@network()
class LayerNormOverAll(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.norm = nn.Conv2d(6, 6, 1), nn.LayerNorm([6, 8, 8])

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.a(x))


@network(tokens)
class RmsNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, 8), nn.RMSNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x))).mean(1)


@network(tokens)
class CosineNormalisation(nn.Module):
    """Rows of unit length; what is removed is zero, so that the length is that of what was kept."""

    multiplied = ("b",)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.normalize(self.b(self.a(x).relu()), dim=-1)).mean(1)


@network()
class CbamChannelMean(Body):
    """The maximum over channels is one over those that were kept: those that were not are zero, and none is below."""

    multiplied = ("stem.1",)

    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.gate = nn.Conv2d(8, 8, 1), nn.Conv2d(1, 1, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(x * self.gate(x.amax(1, keepdim=True)).sigmoid())


# -- shapes ------------------------------------------------------------------------------------------------------------


@network()
class FlattenNchw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = stem(5), nn.Linear(5 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).flatten(1))


@network()
class FlattenNhwc(FlattenNchw):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).permute(0, 2, 3, 1).reshape(x.size(0), -1))


@network()
class FlattenBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = stem(5), nn.BatchNorm1d(5 * 64), nn.Linear(5 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.flatten(self.stem(x), 1)))


@network()
class FlattenCat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = stem(4), stem(6), nn.Linear(4 * 64 + 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.a(x).flatten(1), self.b(x).mean((2, 3))], 1))


@network()
class Unflatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = stem(6), nn.Linear(6, 32), nn.Conv2d(2, 5, 1), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.stem(x).mean((2, 3)))
        return self.head(self.b(y.unflatten(1, (2, 4, 4))))


@network()
class HardCodedView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = stem(8), nn.Linear(512, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.stem(x).view(-1, 512)).relu())


@network()
class ZeroPaddedShortcut(Body):
    def __init__(self) -> None:
        super().__init__(4, 8)
        self.a, self.b = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) + F.pad(x, (0, 0, 0, 0, 2, 2))


# -- sharing -----------------------------------------------------------------------------------------------------------


@network()
class ModuleCalledTwice(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(self.a(x).relu())


@network()
class ModuleOnTwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.shared, self.head = stem(6), stem(6), nn.Conv2d(6, 8, 1), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.a(x)) * self.shared(self.b(x)))


@network(lambda: torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(0)))
class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.a, self.b, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 11, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedding(x)
        return self.out(y + self.b(self.a(y).relu()))


@network(lambda: torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(0)))
class EmbeddingWithPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.a = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a((self.tokens(x) + self.positions(torch.arange(x.shape[1]))).mean(1))


# -- attention ---------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    multiplied = ("qkv",)

    def __init__(self, heads: int = 2, dim: int = 8) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.embed, self.qkv = nn.Linear(5, dim), nn.Linear(dim, 3 * dim)
        self.proj, self.head = nn.Linear(dim, dim), nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attend(x)).mean(1))

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@network(tokens)
class AttentionWrittenOut(Attention):
    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        a = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(b, n, c))


@network(tokens)
class AttentionByHeadSize(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 4

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(b, n, self.heads * self.head_dim))


@network(tokens)
class AttentionByFunction(Attention):
    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(y.transpose(1, 2).flatten(2))


@network(tokens)
class AttentionModule(Attention):
    multiplied = ("mha",)

    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)

    def attend(self, x: Tensor) -> Tensor:
        return self.mha(x, x, x, need_weights=False)[0]


@network(tokens)
class GroupedQueries(nn.Module):
    multiplied = ("q", "kv")

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q, self.kv = nn.Linear(5, 8), nn.Linear(8, 16), nn.Linear(8, 16)
        self.proj, self.head = nn.Linear(16, 8), nn.Linear(8, 3)
        self.heads, self.groups, self.size = 4, 2, 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.heads, self.size).transpose(1, 2)
        k, v = self.kv(x).view(b, n, 2, self.groups, self.size).permute(2, 0, 3, 1, 4)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        a = (q @ k.mT / math.sqrt(4)).softmax(-1) @ v
        return self.head((x + self.proj(a.transpose(1, 2).reshape(b, n, self.heads * self.size))).mean(1))


@network(tokens)
class Einsum(nn.Module):
    matrices = ("w",)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w, self.head = nn.Linear(5, 8), nn.Parameter(torch.randn(8, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.einsum("bnc,cd->bnd", self.a(x).relu(), self.w).relu().mean(1))


@network(tokens)
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.t1, self.t2 = nn.Linear(5, 8), nn.Linear(6, 10), nn.Linear(10, 6)
        self.c1, self.c2, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.t2(self.t1(x.transpose(1, 2)).relu()).transpose(1, 2)
        return self.head((x + self.c2(self.c1(x).relu())).mean(1))


@network(tokens)
class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.lstm, self.head = nn.Linear(5, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.a(x))[0][:, -1])


# -- Python ------------------------------------------------------------------------------------------------------------


@network(vectors)
class DictAndLoops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({f"layer{i}": nn.Linear(5 if i == 0 else 8, 8) for i in range(3)})
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for i, (_, part) in enumerate(self.parts.items()):
            x = part(x).relu() + (x if i else 0)
        return self.head(x)


@network(vectors)
class ControlFlow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 2:
            raise ValueError("x must be a matrix")
        x = self.a(x)
        for _ in range(min(2, len(x))):
            x = self.b(x.relu()) if x.shape[0] > 1 else x
        return self.head(x if scale is None else x * scale)


@network(vectors)
class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        if x.abs().max().item() > 1e9:
            raise ValueError("overflow")
        return self.head(x)


@network(vectors)
class WritesInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], 16)
        y[:, :8] = self.a(x)
        y[:, 8:] = self.b(x)
        return self.head(y.relu_())


@network(vectors)
class NoRule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.renorm(self.a(x), 2, 0, 1e6))
