"""Neuron merging against what the layers themselves compute, and by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.base import ChannelScores, Context, Scorer
from prunetune.plugins.merging import Merging
from prunetune.plugins.snip import Snip
from prunetune.plugins.synflow import SynFlow


class Without(Scorer):
    """These channels of these layers are worth least, all else is not judged."""

    only_reads = True

    def __init__(self, gone: Mapping[str, Sequence[int]]) -> None:
        self.gone = gone

    def channel_scores(self, context: Context) -> ChannelScores:
        scores = {}
        for layer, gone in self.gone.items():
            axis = (f"{layer}.weight", 0)
            scores[axis] = torch.ones(context.graph.shapes[axis[0]][0])
            scores[axis][list(gone)] = 0.0
        return scores


def without(
    model: nn.Module, x: Tensor, layer: str, gone: Sequence[int], **merging: Any
) -> tuple[nn.Module, nn.Module]:
    """The network without some channels of a layer, merged and plainly cut, in evaluation mode."""
    count = model.get_parameter(f"{layer}.weight").shape[0]
    budget = {"percentile": 100 * (len(gone) + 0.5) / count, "floor": 1e-9}
    select = Without({layer: gone})
    merged = prune(model, x, scorer=Merging(select, **merging), **budget).model.eval()
    plain = prune(model, x, scorer=select, **budget).model.eval()
    assert merged.get_parameter(f"{layer}.weight").shape[0] == count - len(gone)
    return merged, plain


def spread(norm: nn.Module, signs: bool = False) -> nn.Module:
    """A batch norm with anything for its statistics, scales and shifts; scales over zero, or of any sign."""
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 3.0)
        norm.bias.uniform_(0.0, 1.0)
        norm.weight.uniform_(0.3, 2.0)
        if signs:
            norm.weight.mul_(torch.randn_like(norm.weight).sign())
    return norm


def make_colinear(
    model: nn.Module, layer: int, norm: int | None, x: Tensor, i: int, j: int, factor: float = 1.7
) -> None:
    """Channel i's filter becomes `factor` times that of j, and its shift such that their outputs have one ratio."""
    with torch.no_grad():
        conv = model[layer]
        conv.weight[i] = 1.7 * conv.weight[j]
        if norm is None:
            conv.bias[i] = 1.7 * conv.bias[j]
            return
        y = model[: norm + 1](x).movedim(1, 0).flatten(1)  # (channels, places), before the activation
        ratio = y[i].std() / y[j].std()
        offset = y[i] - ratio * y[j]
        assert offset.std() < 1e-9, "colinear filters give outputs on a line"
        model[norm].bias[i] -= offset.mean()


NETS = {
    "linear, linear": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
        (0, None),
        (6,),
    ),
    "convolution, norm, convolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 5, 3), spread(nn.BatchNorm2d(5)), nn.ReLU(), nn.Conv2d(5, 3, 3)),
        (0, 1),
        (2, 7, 7),
    ),
    "convolution without bias, norm, pooling, flatten, linear": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3, bias=False),
            spread(nn.BatchNorm2d(5)),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(20, 3),
        ),
        (0, 1),
        (2, 6, 6),
    ),
    "convolution, convolution": (
        lambda: nn.Sequential(nn.Conv1d(2, 5, 3), nn.LeakyReLU(0.2), nn.Conv1d(5, 3, 2)),
        (0, None),
        (2, 7),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_colinear_channel_goes_without_a_trace(name: str) -> None:
    build, (layer, norm), size = NETS[name]
    model = build().double().eval()
    x = torch.randn(4, *size, dtype=torch.float64)
    make_colinear(model, layer, norm, x, i=1, j=3)
    before = copy.deepcopy(model.state_dict())
    # Of the kept channels the colinear one has the least distance whatever the balance, as its B is zero.
    merged, plain = without(model, x, str(layer), [1])
    with torch.no_grad():
        assert (merged(x) - model(x)).abs().max() < 1e-12
        assert (plain(x) - model(x)).abs().max() > 1e-3
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_of_several_norms_in_a_row_of_channels_each_has_its_own_place() -> None:
    """A norm behind a concatenation: the second convolution's channels are the norm's last."""

    class Concatenated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1), spread(nn.BatchNorm2d(7))
            self.out = nn.Conv2d(7, 2, 1)

        def before_activation(self, x: Tensor) -> Tensor:
            return self.norm(torch.cat([self.a(x), self.b(x)], 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.before_activation(x)))

    model = Concatenated().double().eval()
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        model.b.weight[2] = 0.6 * model.b.weight[0]
        y = model.before_activation(x).movedim(1, 0).flatten(1)
        model.norm.bias[5] -= (y[5] - y[5].std() / y[3].std() * y[3]).mean()
        merged, plain = without(model, x, "b", [2])
        assert (merged(x) - model(x)).abs().max() < 1e-12 < 1e-3 < (plain(x) - model(x)).abs().max()


def test_scale_and_shift_are_those_of_the_outputs() -> None:
    """Of colinear partners that one is taken whose |B| / S is least (balance 0); all measured on the layers' outputs.

    B / S is also the test of the deviation's index: the authors' code has that of the other channel, and its square.
    """
    for seed in range(20):
        torch.manual_seed(seed)
        conv, norm = nn.Conv2d(2, 4, 3), spread(nn.BatchNorm2d(4), signs=seed % 2 == 1)
        model = nn.Sequential(conv, norm, nn.ReLU(), nn.Conv2d(4, 1, 1)).double().eval()
        x = torch.randn(4, 2, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            for channel, factor in enumerate((0.4, 1.3, 2.2)):
                conv.weight[channel] = factor * conv.weight[3]
            y = model[:2](x).movedim(1, 0).flatten(1).numpy()
        lines = [np.polyfit(y[j], y[3], 1) for j in range(3)]  # y_3 = S y_j + B
        merged, plain = without(model, x, "0", [3], balance=0.0)
        change = ((merged[3].weight - plain[3].weight) / model[3].weight[0, 3]).detach().flatten().numpy()
        expected = np.zeros(3)
        possible = [j for j in range(3) if lines[j][0] > 0]  # ReLU lets no negative factor through
        if possible:
            best = min(possible, key=lambda j: abs(lines[j][1]) / lines[j][0])
            expected[best] = lines[best][0]
        assert change == pytest.approx(expected, abs=1e-9), seed


def partners() -> nn.Module:
    """Channel 0 is to go. Cosine with 1, 2, 3: .6, 1, 0; s: 1, .5, 1; B = b_0 - s b_j: 0, -1, -.5; |B| / s: 0, 2, .5;

    minmax of these: 0, 1, .25.
    """
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8], [2.0, 0.0], [0.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, 2.0, 0.5]))
        model[2].weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    return model


@pytest.mark.parametrize(
    ("balance", "threshold", "expected"),
    [
        # Distances .85 * .4 = .34, .15 * 1 = .15, .85 + .15 * .25 = .8875: the second, s = .5.
        (0.85, 0.1, [10, 100.5, 1000]),
        # .28, .3, .775: the first, s = 1.
        (0.7, 0.1, [11, 100, 1000]),
        # The first again, whose cosine is below the threshold: no other is taken in its place.
        (0.7, 0.65, [10, 100, 1000]),
        (0.7, 0.55, [11, 100, 1000]),
        # Only the cosine counts, or only the shift.
        (1.0, 0.1, [10, 100.5, 1000]),
        (0.0, 0.1, [11, 100, 1000]),
    ],
)
def test_the_partner_by_hand(balance: float, threshold: float, expected: list[float]) -> None:
    merged, plain = without(partners(), torch.ones(1, 2), "0", [0], balance=balance, threshold=threshold)
    assert merged[2].weight.tolist()[0] == pytest.approx(expected)
    assert plain[2].weight.tolist() == [[10, 100, 1000]]


def test_a_channel_of_zeros_is_like_nothing_and_takes_nothing_over() -> None:
    model = partners()
    with torch.no_grad():
        model[0].weight[2] = 0.0
    merged, _ = without(model, torch.ones(1, 2), "0", [0])
    assert merged[2].weight.tolist()[0] == pytest.approx([11, 100, 1000])
    merged, plain = without(model, torch.ones(1, 2), "0", [2])
    assert torch.equal(merged[2].weight, plain[2].weight)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        return self.out(y + self.b(y))


def flattened_norm() -> nn.Module:
    """The norm has a scale for every place of a channel: no single S."""
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), spread(nn.BatchNorm1d(16)), nn.ReLU(), nn.Linear(16, 2))


def scaled() -> nn.Module:
    class Scaled(nn.Module):
        """A parameter of shape (1, 4, 1, 1) that multiplies channels is no layer that reads them."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 1)
            self.scale = nn.Parameter(torch.rand(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.a(x) * self.scale))

    return Scaled()


@pytest.mark.parametrize(("build", "layer"), [(Residual, "a"), (flattened_norm, "0"), (scaled, "a")])
def test_without_one_scale_a_channel_it_is_a_plain_cut(build: Any, layer: str) -> None:
    merged, plain = without(build(), torch.randn(2, 2, 4, 4), layer, [1, 2])
    assert all(
        torch.equal(a, b) for a, b in zip(merged.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def test_merging_gives_back_most_of_what_near_duplicates_lose() -> None:
    errors = []
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3),
            spread(nn.BatchNorm2d(16)),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
            nn.Conv2d(16, 5, 1),
        ).eval()
        with torch.no_grad():
            for tensor in (model[0].weight, model[0].bias, *model[1].parameters(), *list(model[1].buffers())[:2]):
                tensor[8:] = tensor[:8] * (1 + 0.01 * torch.rand_like(tensor[:8]))
            for tensor in model[3].parameters():
                tensor[8:] = tensor[:8] * (1 + 0.3 * torch.rand(8).view(-1, *[1] * (tensor.ndim - 1)))
        x = torch.randn(8, 3, 8, 8)
        select = Without({"0": range(8, 16), "3": range(8, 16)})
        for scorer in (Merging(select), select):
            proxy = prune(model, x, scorer=scorer, ratio=0.5).model.eval()
            assert proxy[0].out_channels == proxy[3].out_channels == 8
            errors.append((proxy(x) - model(x)).detach().square().mean().item())
    assert sum(errors[::2]) < 0.01 * sum(errors[1::2])


def test_what_selects_has_its_needs_and_its_own_scores() -> None:
    model, x = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(3, 2)
    before = copy.deepcopy(model)
    data = [(x, torch.tensor([0, 1, 1]))]
    for select in (Snip(), SynFlow(), make_scorer("3sp"), make_scorer("taylor"), make_scorer("magnitude+lamp")):
        merged = prune(model, x, scorer=Merging(select), data=data)
        assert np.array_equal(merged.scores, prune(model, x, scorer=select, data=data).scores)
    for (name, parameter), expected in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, expected) and parameter.dtype == torch.float32 and parameter.grad is None, name
    with pytest.raises(InputError, match="Snip needs labelled data"):
        prune(model, x, scorer=Merging(Snip()))


def test_parts_of_its_name_are_those_of_what_selects() -> None:
    x = torch.randn(1, 2, 4, 4)
    model = Residual()
    for parts in ("+max", "+sum+lamp"):
        merged = prune(model, x, scorer=f"merging{parts}").scores
        assert np.array_equal(merged, prune(model, x, scorer=f"fpgm{parts}").scores)
