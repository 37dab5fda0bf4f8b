"""Costs of a plan that was not applied, against torch's own counter and the memory of the network that was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from prunetune import prune
from prunetune.engine import step_time
from prunetune.engine.cost import MOST_TURNS
from prunetune.zoo import models as zoo


def counted(model: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops()


class Made(TorchFunctionMode):
    """Bytes of the tensors that torch functions return and that lie in memory of their own."""

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        super().__init__()
        self.alive: list[object] = [x, *model.parameters(), *model.buffers()]
        self.seen = {t.untyped_storage().data_ptr() for t in self.alive if isinstance(t, torch.Tensor)}
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in self.seen:
                self.seen.add(leaf.untyped_storage().data_ptr())
                self.alive.append(leaf)
                self.bytes += leaf.numel() * leaf.element_size()
        return out


def made(model: nn.Module, x: torch.Tensor) -> int:
    with Made(model, x) as mode:
        model.train()(x)
    return mode.bytes


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x1_0", "swin_t"])
def test_costs_of_torchvision(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None, num_classes=10)
    x = torch.randn(2, 3, 64, 64)
    result = prune(model, x, scorer="random", ratio=0.5)
    for network, cost in ((model, result.cost.base), (result.model, result.cost.proxy)):
        assert (cost.parameters, cost.flops) == counted(network, x)
        assert cost.activations == made(network, x)


def test_activations_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 16, 5))
    cost = prune(model, torch.ones(2, 3, 4, 4), scorer="random", ratio=0.5).cost
    # float32; the ReLU is in place, flatten is a view.
    assert cost.base.activations == 4 * (2 * 8 * 16 + 2 * 5)
    assert cost.proxy.activations == 4 * (2 * 4 * 16 + 2 * 5)


@pytest.mark.parametrize("name", [n for n in zoo.names() if n != "resnet110"])
def test_agrees_with_the_flop_counter(name: str) -> None:
    model = zoo[name](10, 3)
    x = torch.randn(3, 3, 32, 32)
    result = prune(model, x, scorer="random", percentile=70)
    assert (result.cost.base.parameters, result.cost.base.flops) == counted(model, x)
    assert (result.cost.proxy.parameters, result.cost.proxy.flops) == counted(result.model, x)


def test_flops_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    cost = prune(model, torch.ones(1, 3, 4, 4), scorer="random", ratio=0.5).cost
    # Convolution: 2 * 16 places * 9 * 3 * 8 = 6912; linear: 2 * 128 * 5 = 1280; half of each after the cut.
    assert (cost.base.flops, cost.proxy.flops) == (6912 + 1280, 3456 + 640)
    # Weights and biases: 216 + 8 and 640 + 5, then 108 + 4 and 320 + 5.
    assert (cost.base.parameters, cost.proxy.parameters) == (869, 437)


def test_step_time_leaves_the_models_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(4, 3, 8, 8)
    model(x)
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    times = step_time({"a": model, "b": model}, x, seconds=0.1)
    assert torch.equal(torch.rand(1), expected)
    assert set(times) == {"a", "b"} and all(t > 0 for t in times.values())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert (model.training, model[2].training) == (True, False)
    assert all(p.grad is None for p in model.parameters())


class _Clock:
    """Says the times at which the steps begin and end: every step takes as long as the next of ``seconds``."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = list(seconds)
        self.now = 0.0
        self.read = 0

    def __call__(self) -> float:
        self.read += 1
        if self.read % 2 == 0:
            self.now += self.seconds[min(self.read // 2, len(self.seconds)) - 1]
        return self.now


@pytest.mark.parametrize(
    ("steps", "turns"),
    [
        ([1.0] * 40, 5),  # the fewest
        # the first is the warm-up; the error of a median is 1.2533 x 1.4826 x the median deviation / sqrt(turns)
        ([1.0, *[0.99, 1.0, 1.01] * 20], 5),  # .01 x 1.858 / sqrt(5) = .0083
        ([1.0, *[0.9, 1.0, 1.1] * 60], 87),  # .1 x 1.858 / .02 = 9.29, of which the square is 86.3
    ],
)
def test_steps_are_timed_until_their_median_is_precise(steps: list[float], turns: int) -> None:
    clock = _Clock(steps)
    step_time({"a": nn.Linear(2, 2)}, torch.ones(1, 2), seconds=60, clock=clock)
    assert clock.read // 2 - 1 == turns


def test_a_precision_of_nothing_takes_the_whole_time() -> None:
    clock = _Clock([1.0])
    step_time({"a": nn.Linear(2, 2)}, torch.ones(1, 2), seconds=60, precision=0, clock=clock)
    assert clock.read // 2 - 1 == MOST_TURNS
