"""Normalisations and gates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, network, tokens


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
