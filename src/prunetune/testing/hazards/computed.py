"""Weights that are computed from weights, and networks that compute in the frequency domain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, network, tokens, vectors


class Update(nn.Module):
    """A matrix with an update of low rank, merged when it is used."""

    def __init__(self, inputs: int, out: int, *, alone: bool) -> None:
        super().__init__()
        self.weight = None if alone else nn.Parameter(torch.randn(out, inputs))
        self.up, self.down = nn.Parameter(torch.randn(out, 4)), nn.Parameter(torch.randn(4, inputs))

    def forward(self, x: Tensor) -> Tensor:
        update = self.up @ self.down
        return F.linear(x, update if self.weight is None else self.weight + 0.5 * update)


@network(vectors)
class LowRank(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(Update(5, 8, alone=True), nn.ReLU(), Update(8, 6, alone=True), nn.ReLU(), nn.Linear(6, 3))


@network(vectors)
class MergedLowRank(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(Update(5, 8, alone=False), nn.ReLU(), Update(8, 6, alone=False), nn.ReLU(), nn.Linear(6, 3))


@network(vectors)
class Hadamard(nn.Module):
    """Products, sums and an einsum of weights; and one that is padded to its size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(8, 5))
        self.bank, self.share = nn.Parameter(torch.randn(2, 8, 6)), nn.Parameter(torch.randn(2))
        self.narrow, self.head = nn.Parameter(torch.randn(7, 6)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, (self.a * self.b).clamp(-2.0, 2.0)).relu()
        x = F.linear(x, torch.einsum("kio,k->oi", self.bank, self.share.softmax(0))).relu()
        return self.head(F.linear(x, F.pad(self.narrow, (0, 0, 1, 0))))


@network()
class GlobalFilter(Body):
    """Channel by channel, over the frequencies of places."""

    def __init__(self) -> None:
        super().__init__(8)
        self.filter, self.a = nn.Parameter(torch.randn(8, 8, 5, 2)), nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(self.a(x)) * torch.view_as_complex(self.filter)
        return x + torch.fft.irfft2(spectrum, s=(x.size(-2), x.size(-1)))


@network()
class SpectralConvolution(Body):
    """A complex matrix for each low frequency, written into a spectrum of zeros."""

    matrices = ("weight",)

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.weight = nn.Parameter(torch.randn(8, 6, 3, 3, dtype=torch.cdouble))

    def body(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(x, dim=(-2, -1))
        out = spectrum.new_zeros(x.shape[0], self.weight.shape[1], *spectrum.shape[2:])
        out[:, :, :3, :3] = torch.einsum("bixy,ioxy->boxy", spectrum[..., :3, :3], self.weight)
        return torch.fft.ifft2(out).real


@network(tokens)
class FourierOverTokens(nn.Module):
    """Tokens are mixed, channels pass; pairs of them are one complex number for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + torch.fft.fft(x, dim=1, norm="ortho").imag
        turned = torch.view_as_complex(self.b(x).unflatten(-1, (-1, 2))) * torch.polar(
            x.new_ones(6, 1), x.new_ones(6, 1)
        )
        return self.head(torch.view_as_real(turned).flatten(2))
