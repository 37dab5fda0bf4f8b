"""What stands before a norm, found on networks whose norms are known, and the rule that looks at it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import prunetune
from prunetune.engine import PruningPlan, fresh_proxy
from prunetune.transfer import transfers
from prunetune.transfer.base import widths
from prunetune.transfer.groups import proxy_groups
from prunetune.transfer.norms import normed
from prunetune.zoo import models

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(32, (8, 6), generator=torch.Generator().manual_seed(0))


def matrices(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if sum(n > 1 for n in p.shape) > 1}


class RootMeanSquare(nn.Module):
    """A norm that somebody has written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(width))  # which hides what is before it from the outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + self.gain)


class Attention(nn.Module):
    """A block of a transformer that normalises queries and keys, with a scale for its branch of nearly nothing."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.table = nn.Embedding(32, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.before, self.of_queries, self.of_keys = (RootMeanSquare(width) for _ in range(3))
        self.small = nn.Parameter(torch.full((width,), 1e-6))
        self.last = nn.Linear(width, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        y = self.before(x)
        mixed = nn.functional.scaled_dot_product_attention(
            self.of_queries(self.query(y)), self.of_keys(self.key(y)), self.value(y)
        )
        out: torch.Tensor = self.last(x + self.small * self.out(mixed))
        return out


class Depthwise(nn.Module):
    """Convolutions of all kinds before batch norm, one that is not, and one that standardises its weights."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width)
        self.deep, self.norm2 = nn.Conv2d(width, width, 3, groups=width, bias=False), nn.BatchNorm2d(width)
        self.point, self.norm3 = nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width)
        self.free = nn.Conv2d(2 * width, width, 1)
        self.last = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.first(x)).relu()
        x = self.norm2(self.deep(x)).relu()
        x = self.norm3(self.point(x)).relu()
        out: torch.Tensor = self.last(self.free(x).relu().mean((2, 3)))
        return out


@pytest.mark.parametrize("name", ["resnet20", "vgg16-bn"])
def test_every_convolution_of_a_network_with_batch_norm_stands_before_one(name: str) -> None:
    torch.manual_seed(0)
    model = models[name](10, 3)
    assert normed(model, IMAGES) == matrices(model) - {"classifier.weight"}


@pytest.mark.parametrize(("name", "norms"), [("mobilenet_v2", 52), ("efficientnet_b0", 49), ("shufflenet_v2_x0_5", 56)])
def test_as_many_weights_as_batch_norms(name: str, norms: int) -> None:
    """In these every batch norm follows a convolution; EfficientNet's gates have weights without."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=10)
    assert sum(isinstance(each, nn.BatchNorm2d) for each in model.modules()) == norms
    found = normed(model, torch.randn(8, 3, 64, 64))
    assert len(found) == norms
    assert not [each for each in found if ".fc" in each]


def test_convnext_has_a_norm_behind_the_stem_and_the_depthwise_convolutions_only() -> None:
    """Its branches begin with a scale of 1e-6, which hides them from the outputs."""
    torch.manual_seed(0)
    model = torchvision.models.convnext_tiny(num_classes=10)
    deep = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    assert len(deep) == 18
    assert normed(model, torch.randn(8, 3, 64, 64)) == {"features.0.0.weight", *deep}


def test_a_norm_that_somebody_wrote_himself_is_seen() -> None:
    torch.manual_seed(0)
    model = Attention()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert normed(model, TOKENS) == {"query.weight", "key.weight"}
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())


def test_without_values_nothing_is_known_and_without_norms_there_is_none() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    assert normed(plain, torch.randn(8, 4)) == frozenset()
    assert normed(models["resnet20"](10, 3), IMAGES.to("meta")) == frozenset()


def test_a_readout_that_begins_with_zeros_hides_nothing() -> None:
    torch.manual_seed(0)
    model = models["resnet20"](10, 3)
    nn.init.zeros_(model.classifier.weight)
    assert normed(model, IMAGES) == matrices(model) - {"classifier.weight"}
    assert not model.classifier.weight.any()


def test_inputs_that_are_all_the_same_say_as_much() -> None:
    """As README has them."""
    torch.manual_seed(0)
    model = models["resnet20"](10, 3)
    assert normed(model, torch.zeros(64, 3, 32, 32)) == matrices(model) - {"classifier.weight"}


class Fixed(nn.Module):
    """Takes sixteen examples and no other number of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.norm(self.first(x.view(16, 6).mul_(2.0))).relu())
        return out


class Categories(Fixed):
    """Reads numbers as indices."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.table(x.long()).clone())


def test_a_network_of_which_eight_examples_or_noise_say_nothing_is_asked_with_what_was_given() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(16, 6)
    before = inputs.clone()
    assert normed(Fixed(), inputs) == {"first.weight"}
    assert torch.equal(inputs, before)
    assert "first.weight" in normed(Categories(), torch.arange(16.0) % 4)


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(self.norm(self.first(x)))


def test_complex_outputs_say_as_much() -> None:
    torch.manual_seed(0)
    assert normed(Spectrum(), torch.randn(8, 6)) == {"first.weight"}


def test_a_network_that_cannot_be_looked_at_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="which weights stand before a norm cannot be found .ValueError: Expected mor"):
        assert normed(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)), torch.randn(1, 6)) == frozenset()


def test_a_plan_carries_it() -> None:
    plan = PruningPlan({}, {}, normed=frozenset({"b", "a"}))
    assert PruningPlan.from_json(plan.to_json()) == plan
    assert "normed" not in PruningPlan({}, {}).to_json()
    assert PruningPlan({}, {}, {}, frozenset({"a"})).then(plan).normed == {"a", "b"}


def test_factors_of_a_quarter_by_hand() -> None:
    """The first: 1. Depthwise, gains and biases of norms: the root. Inner ones o / i, the readout 1 / r."""
    torch.manual_seed(0)
    factory = prunetune.proxy_of(
        Depthwise, IMAGES, prunetune.Pruning(scorer="uniform", ratio=0.25, transfer="norm-aware")
    )
    assert factory.plan.normed == {"first.weight", "deep.weight", "point.weight"}
    proxy = factory()
    found = widths(proxy, factory.plan)
    rule = transfers["norm-aware"]
    sgd = {name: rule.scale(width, "sgd") for name, width in found.items()}
    assert {name: scale.lr for name, scale in sgd.items()} == {
        "first.weight": 1.0,
        "deep.weight": 0.5,
        **{f"norm{i}.{part}": 0.5 for i in (1, 2, 3) for part in ("weight", "bias")},
        "point.weight": 1.0,
        "point.bias": 0.25,
        "free.weight": 1.0,
        "free.bias": 0.25,
        "last.weight": 4.0,
        "last.bias": 1.0,
    }
    adam = {name: rule.scale(width, "adam") for name, width in found.items()}
    assert {name: scale.lr for name, scale in adam.items() if scale.lr != 1} == {
        "point.weight": 4.0,
        "free.weight": 4.0,
        "last.weight": 4.0,
    }
    for scale in (*sgd.values(), *adam.values()):
        assert scale.lr * scale.weight_decay == 1.0
        assert scale.init == 1.0


class Narrow(nn.Module):
    """He's initial weights, whose filters are as long at every width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential()
        for place, (fan_in, fan_out) in enumerate(((3, width), (width, width), (width, width))):
            conv = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            self.body.extend([conv, nn.BatchNorm2d(fan_out), nn.ReLU()])
            assert place < 3
        self.last = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.body(x).mean((2, 3)))
        return out


def turned(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    """By how much, in radians, a step of SGD turns the mean filter of each convolution."""
    convolutions = {name: m.weight for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    before = {name: weight.detach().clone() for name, weight in convolutions.items()}
    targets = torch.arange(8) % 10
    nn.functional.cross_entropy(model(IMAGES.double()), targets).backward()
    torch.optim.SGD(groups).step()
    return {
        name: float(
            torch.acos(
                nn.functional.cosine_similarity(before[name].flatten(1), weight.detach().flatten(1)).clamp(-1, 1)
            ).mean()
        )
        for name, weight in convolutions.items()
    }


def test_filters_turn_as_far_at_every_width_and_farther_by_mup() -> None:
    """Slopes over the width, in logarithms: of the mean of three convolutions 0, and -1/2 with mup's readout."""
    shares, slopes = (1.0, 0.5, 0.25, 0.125), {}
    for rule in ("norm-aware", "mup"):
        angles = []
        for share in shares:
            pruning = prunetune.Pruning(scorer="uniform", ratio=share, transfer=rule)
            total = 0.0
            for seed in range(4):
                torch.manual_seed(seed)
                factory = prunetune.proxy_of(lambda: Narrow(64), IMAGES, pruning)
                proxy = fresh_proxy(lambda: Narrow(64), factory.plan).double()
                groups = proxy_groups(factory.plan, rule, "redraw")(proxy, lr=1e-3, weight_decay=0.0, optimizer="sgd")
                total += sum(turned(proxy, groups).values())
            angles.append(total)
        logs = torch.tensor([[math.log(s), 1.0] for s in shares], dtype=torch.float64)
        slopes[rule] = torch.linalg.lstsq(logs, torch.tensor(angles, dtype=torch.float64).log()).solution[0].item()
    assert abs(slopes["norm-aware"]) < 0.15
    assert slopes["mup"] < -0.3
