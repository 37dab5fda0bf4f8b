"""Operations of random programs: other layouts, and sums over channels and places."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from prunetune.testing.fuzzer.operations.functions import ALL, along_channels, function, nothing
from prunetune.testing.fuzzer.operations.layers import FIRST
from prunetune.testing.fuzzer.programs import Dice, Options, Value

# -- layouts -----------------------------------------------------------------------------------------------------------


@function(("image",), nothing, gives="last")
def to_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


@function(("last",), nothing, gives="image")
def to_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


@function(("image", "volume"), nothing, gives="sequence")
def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


@function(("sequence",), nothing, gives="line")
def tokens_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


@function(("line",), nothing, gives="sequence")
def tokens_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 1)


@function(("line", "sequence"), nothing)
def exchanged(x: Tensor) -> Tensor:
    """Places become channels."""
    return x.transpose(1, 2)


@function(("line",), nothing, gives="image")
def with_height(x: Tensor) -> Tensor:
    return x.unsqueeze(2)


@function(("volume",), nothing, gives="image")
def flat_depth(x: Tensor) -> Tensor:
    return x.flatten(2, 3)


@function(("image",), nothing, gives="volume")
def with_depth(x: Tensor) -> Tensor:
    return x[:, :, None]


@function((*FIRST, "last", "sequence"), nothing, gives="vector")
def flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


@function((*FIRST, "last", "sequence"), nothing, gives="vector")
def flatten_by_view(x: Tensor) -> Tensor:
    return x.reshape(x.size(0), -1)


@function((*FIRST, "last"), lambda dice, x: {"size": math.prod(x.shape[1:])}, gives="vector")
def flatten_hard_coded(x: Tensor, size: int) -> Tensor:
    return x.reshape(-1, size)


@function(("image",), nothing, gives="line")
def flat_places(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h * w)


@function(("image",), lambda dice, x: {} if x.places[0] > 1 else None, gives="line")
def height_into_channels(x: Tensor) -> Tensor:
    return x.flatten(1, 2)


def _foldable(dice: Dice, x: Value) -> Options | None:
    return {} if x.channels % 4 == 0 and x.channels > 4 else None


@function(("vector",), _foldable, gives="image")
def unflatten(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 2, 2))


@function(("vector",), _foldable, gives="image")
def unflatten_by_view(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1] // 4, 2, 2)


@function(("vector",), _foldable, gives="sequence")
def vector_to_tokens(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], 4, -1)


# -- over channels and places ------------------------------------------------------------------------------------------


def _places_options(dice: Dice, x: Value) -> Options | None:
    places = tuple(d for d in range(1, len(x.shape)) if d != x.channel)
    return {"kind": dice.one_of(["mean", "sum", "amax", "logsumexp"]), "dims": places}


@function((*FIRST, "last", "sequence"), _places_options, gives="vector")
def pool_places(x: Tensor, kind: str, dims: tuple[int, ...]) -> Tensor:
    return getattr(x, kind)(dims)


@function((*FIRST, "last", "sequence"), _places_options)
def squeeze_places(x: Tensor, kind: str, dims: tuple[int, ...]) -> Tensor:
    return getattr(x, kind)(dims, keepdim=True)


@function(ALL, lambda dice, x: {"kind": dice.one_of(["mean", "sum", "amax"]), "dim": x.channel})
def over_channels(x: Tensor, kind: str, dim: int) -> Tensor:
    return getattr(x, kind)(dim, keepdim=True)


@function(ALL, along_channels)
def centred(x: Tensor, dim: int) -> Tensor:
    return x - x.mean(dim, keepdim=True)


@function(FIRST, nothing)
def spatial_gate(x: Tensor) -> Tensor:
    """As CBAM's, without its convolution."""
    both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * both.sum(1, keepdim=True).sigmoid()


@function(ALL, along_channels)
def softmax(x: Tensor, dim: int) -> Tensor:
    return x.softmax(dim)


@function(("image", "last"), lambda dice, x: {"dim": 2})
def softmax_places(x: Tensor, dim: int) -> Tensor:
    return F.softmax(x, dim)


@function(ALL, along_channels)
def normalise(x: Tensor, dim: int) -> Tensor:
    return F.normalize(x, dim=dim)


@function(ALL, along_channels)
def normalise_by_norm(x: Tensor, dim: int) -> Tensor:
    return x / (x.norm(dim=dim, keepdim=True) + 1e-3)


@function(FIRST, lambda dice, x: {} if x.channels % 2 == 0 else None)
def maxout(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:]).amax(2)


@function(ALL, lambda dice, x: {"dim": x.channel} if x.channels % 2 == 0 else None)
def glu(x: Tensor, dim: int) -> Tensor:
    return F.glu(x, dim)


@function(ALL, along_channels)
def cumulated(x: Tensor, dim: int) -> Tensor:
    return x.cumsum(dim=dim)


@function(FIRST, lambda dice, x: {"kind": dice.one_of(["max", "avg"])} if min(x.places) > 1 else None)
def pool(x: Tensor, kind: str) -> Tensor:
    return getattr(F, f"{kind}_pool{x.ndim - 2}d")(x, 2)


@function(FIRST, lambda dice, x: {"size": dice.one_of([1, 2])})
def adaptive_pool(x: Tensor, size: int) -> Tensor:
    return getattr(F, f"adaptive_avg_pool{x.ndim - 2}d")(x, size)


@function(FIRST, lambda dice, x: {"factor": 2})
def interpolate(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor)


@function(
    ALL, lambda dice, x, y: {}, partner=lambda x, y: x.layout == y.layout and x.places == y.places and y.channels == 1
)
def expand(x: Tensor, y: Tensor) -> Tensor:
    """The copies meet `x` at once: which of them stay is nobody's choice else, and the oracle has to know."""
    return y.expand_as(x) - x


@function(FIRST, lambda dice, x: {"channels": dice.one_of([4, 6])} if x.channels == 1 else None)
def expand_hard_coded(x: Tensor, channels: int) -> Tensor:
    return x.expand(-1, channels, *[-1] * (x.ndim - 2))
