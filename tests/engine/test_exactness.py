"""Every architecture of the paper and its neighbours, cut at random and compared with the oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from prunetune import prune
from prunetune.testing.oracle import largest_error, randomise
from prunetune.zoo import models as zoo


def vgg11(batch_norm: bool) -> nn.Module:
    """torchvision's VGG-11 with a narrow classifier (its own has 120 million weights, which only cost time here)."""
    model = (torchvision.models.vgg11_bn if batch_norm else torchvision.models.vgg11)(init_weights=False)
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision vgg11_bn": (lambda: vgg11(True), 32),
    "torchvision vgg11 (no batch norm)": (lambda: vgg11(False), 32),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=10), 48),
    "torchvision resnet50": (lambda: torchvision.models.resnet50(num_classes=10), 48),
    "torchvision resnext50 (groups)": (lambda: torchvision.models.resnext50_32x4d(num_classes=10), 48),
    "torchvision mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=10), 48),
    "torchvision densenet121": (lambda: torchvision.models.densenet121(num_classes=10), 48),
    "torchvision shufflenet_v2_x0_5": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), 48),
    **{
        f"zoo {name}": ((lambda name=name: zoo[name](10, 3)), 32)
        for name in zoo.names()
        if name not in ("resnet110", "vgg19-bn")
    },
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("seed", "options"), [(0, {"ratio": 0.5}), (1, {"percentile": 85.0}), (2, {"percentile": 40.0})]
)
def test_a_random_cut_is_exact_and_trains(name: str, seed: int, options: dict[str, float]) -> None:
    make, size = NETWORKS[name]
    model = randomise(make(), seed)
    inputs = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    before = copy.deepcopy(model.state_dict())
    result = prune(model, inputs, scorer="random", seed=seed, **options)  # type: ignore[arg-type]
    assert largest_error(model, result.model, result.plan, inputs) < 1e-9
    assert result.cost.proxy.parameters < 0.9 * result.cost.base.parameters
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "the user's model was changed"
    _trains(result.model, inputs)


def _trains(model: nn.Module, inputs: torch.Tensor) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    weights = [p for p in model.parameters() if p.ndim > 1]  # a bias before a batch norm has no gradient
    before = [p.detach().clone() for p in weights]
    loss = nn.functional.cross_entropy(model(torch.cat([inputs, -inputs])), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, weights, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
