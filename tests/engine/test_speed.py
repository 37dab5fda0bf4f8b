"""Predicted step times against numbers worked out by hand, and of cuts against those of the networks that were cut."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from prunetune.engine import DependencyGraph, PruningPlan, StepTimeModel, apply, calibrate
from prunetune.engine.timing import calibrate as calibration
from prunetune.engine.timing.micro_networks import Attention, Joined, shuffled, transformer
from prunetune.engine.timing.model import demand, fit
from prunetune.errors import InputError
from prunetune.zoo import models as zoo

QUANTITIES = ("call", "read", "written", "large", "flops", "weights", "padded flops", "pairs")
KINDS = (
    *("convolution", "pointwise convolution", "depthwise convolution", "grouped convolution", "product", "attention"),
    *("batch norm", "layer norm", "function", "pool", "slice", "copy", "pointwise", "view"),
)
EVERYTHING = StepTimeModel({kind: dict.fromkeys(QUANTITIES, 1.0) for kind in KINDS}, "cpu", "float32", 4)


def random_mask(graph: DependencyGraph, rng: np.random.Generator, share: float) -> np.ndarray:
    """At least two units of every group stay: with a single channel a grouped convolution is a plain one."""
    keep = rng.random(graph.unit_count + 1) < share
    for group in graph.groups:
        keep[list(group.units[:2])] = True
    keep[0] = True
    return keep


def test_a_step_of_two_layers_by_hand() -> None:
    # Images (2, 3, 4, 4); a convolution 3 -> 10 with a kernel of 3 and no padding makes 2 * 2 places.
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5))
    graph = DependencyGraph.of(model, torch.ones(2, 3, 4, 4))
    flops = 2 * 2 * 4 * 9 * 3 * 10
    # No gradient of the images: two thirds of a step. Channels in eights: 3 count as 8 and 10 as 16.
    assert demand(graph) == pytest.approx(
        {
            ("convolution", "call"): 2 / 3,
            ("convolution", "read"): 2 / 3 * 96,
            ("convolution", "written"): 2 / 3 * 80,
            ("convolution", "large"): 0,
            ("convolution", "flops"): 2 / 3 * flops,
            ("convolution", "padded flops"): 2 / 3 * flops * (8 / 3) * (16 / 10),
            ("convolution", "weights"): 2 / 3 * 280,
            ("pointwise", "call"): 1,
            ("pointwise", "read"): 80,
            ("pointwise", "written"): 80,
            ("pointwise", "large"): 0,
            ("view", "call"): 1,
            ("view", "read"): 80,
            ("view", "written"): 80,
            ("view", "large"): 0,
            ("product", "call"): 1,
            ("product", "read"): 80,
            ("product", "written"): 10,
            ("product", "large"): 0,
            ("product", "flops"): 2 * 2 * 40 * 5,
            ("product", "weights"): 205,
        }
    )
    seconds = {"convolution": {"flops": 1e-9, "call": 3e-3}, "product": {"weights": 1e-6}, "pointwise": {"read": 1e-6}}
    model_of_time = StepTimeModel(seconds, "cpu", "float32", 4)
    assert model_of_time.predict(graph) == pytest.approx(2e-3 + 2 / 3 * flops * 1e-9 + 205e-6 + 80e-6)
    half = np.ones(graph.unit_count + 1, dtype=bool)
    half[1:6] = False  # five of ten channels
    assert model_of_time.predict(graph, half) == pytest.approx(2e-3 + flops / 3 * 1e-9 + 105e-6 + 40e-6)
    anchored = model_of_time.anchored(graph, 1.0)
    assert anchored.predict(graph) == pytest.approx(1.0)
    assert anchored.predict(graph, half) == pytest.approx(
        model_of_time.predict(graph, half) / model_of_time.predict(graph)
    )


def test_a_tensor_that_is_read_twice_has_two_gradients_to_add() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            return torch.sigmoid(y) + y

    found = demand(DependencyGraph.of(Twice(), torch.ones(3, 4)))
    # The sum itself, and a third of a step (nothing comes back from there) for the sum of the gradients.
    assert found["pointwise", "call"] == pytest.approx(1 + 1 / 3)
    assert found["pointwise", "read"] == pytest.approx((1 + 1 / 3) * 36)
    assert found["function", "read"] == 18


def test_kinds_of_convolutions() -> None:
    layers = [
        nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 16, 3, groups=4),
        nn.ConvTranspose2d(16, 24, 3), nn.ConvTranspose2d(24, 24, 3, groups=24),
    ]  # fmt: skip
    found = demand(DependencyGraph.of(nn.Sequential(*layers), torch.ones(1, 8, 9, 9)))
    calls = {kind: n for (kind, name), n in found.items() if name == "call"}
    kinds = {"pointwise convolution": 2 / 3, "depthwise convolution": 2, "grouped convolution": 1, "convolution": 1}
    assert calls == pytest.approx(kinds)


@pytest.mark.parametrize("heads", ["dims", "whole"])
def test_pairs_of_an_attention(heads: str) -> None:
    graph = DependencyGraph.of(nn.Sequential(nn.Linear(3, 8), Attention(8, 2)), torch.ones(5, 7, 3), heads=heads)
    found = demand(graph)
    assert found["attention", "pairs"] == 5 * 7 * 7 * 2
    assert found["attention", "flops"] == 4 * 5 * 7 * 7 * 8
    assert found["product", "flops"] == 2 / 3 * 2 * 35 * 3 * 8 + 4 * 2 * 35 * 8 * 8


def test_tensors_over_the_limit_count_twice() -> None:
    graph = DependencyGraph.of(nn.Sequential(nn.Linear(4, 1024), nn.ReLU()), torch.ones(2**13, 4, device="meta"))
    found = demand(graph)
    assert found["pointwise", "large"] == found["pointwise", "read"] + found["pointwise", "written"]
    assert demand(graph, itemsize=2)["pointwise", "large"] == 0


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_fit_recovers_known_coefficients(noise: float) -> None:
    rng = np.random.default_rng(0)
    truth = {("a", "call"): 2e-4, ("a", "flops"): 3e-11, ("b", "read"): 4e-9, ("b", "written"): 0.0}
    magnitude = {("a", "call"): 1e1, ("a", "flops"): 1e8, ("b", "read"): 1e6, ("b", "written"): 1e6}
    demands = [{name: magnitude[name] * rng.lognormal(sigma=1.5) for name in truth} for _ in range(200)]
    seconds = [sum(truth[name] * n for name, n in needed.items()) for needed in demands]
    seconds = [t * (1 + noise * rng.normal()) for t in seconds]
    seconds[::20] = [3 * t for t in seconds[::20]]  # something else ran meanwhile
    found = fit(demands, seconds)
    for (kind, name), value in truth.items():
        assert found.get(kind, {}).get(name, 0.0) == pytest.approx(value, rel=0.05, abs=1e-10)


NETWORKS = {
    "resnet": (lambda: torchvision.models.resnet18(num_classes=10), (2, 3, 64, 64)),
    "mobilenet": (lambda: zoo["mobilenetv2"](10, 3), (2, 3, 32, 32)),
    "dense": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Joined(nn.Conv2d(8, 6, 1)), nn.Conv2d(14, 5, 1)), (2, 3, 8, 8)),
    "grouped": (
        lambda: nn.Sequential(nn.Conv2d(3, 24, 3), nn.Conv2d(24, 48, 3, groups=4), nn.Conv2d(48, 5, 1)), (2, 3, 8, 8),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.Conv2d(3, 24, 3), nn.ConvTranspose2d(24, 10, 3), nn.Conv2d(10, 5, 1)), (2, 3, 8, 8),
    ),
    "transformer": (lambda: nn.Sequential(nn.Linear(3, 24), transformer(24, 4), nn.Linear(24, 5)), (2, 7, 3)),
    "shuffled": (lambda: nn.Sequential(nn.Conv2d(3, 24, 3), shuffled(24), nn.Conv2d(24, 5, 1)), (2, 3, 8, 8)),
}  # fmt: skip


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor, DependencyGraph]:
    build, shape = NETWORKS[request.param]
    model, x = build(), torch.ones(shape)
    return model, x, DependencyGraph.of(model, x)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 1.0))
def test_a_cut_is_predicted_as_the_network_that_was_cut(
    network: tuple[nn.Module, torch.Tensor, DependencyGraph], seed: int, share: float
) -> None:
    model, x, graph = network
    keep = random_mask(graph, np.random.default_rng(seed), share)
    cut = DependencyGraph.of(apply(PruningPlan.of(graph, keep), model), x)
    assert demand(graph, keep) == demand(cut)
    assert EVERYTHING.predict(graph, keep) == EVERYTHING.predict(cut)


def test_whole_heads_are_counted_as_in_the_network_that_was_cut() -> None:
    model, x = nn.Sequential(nn.Linear(3, 24), transformer(24, 4), nn.Linear(24, 5)), torch.ones(2, 7, 3)
    graph = DependencyGraph.of(model, x, heads="whole")
    keep = np.ones(graph.unit_count + 1, dtype=bool)
    keep[list(graph.groups[0].units[:1])] = False
    cut = DependencyGraph.of(apply(PruningPlan.of(graph, keep), model), x, heads="whole")
    assert demand(graph, keep) == demand(cut)
    assert demand(cut)["attention", "pairs"] < demand(graph)["attention", "pairs"]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_more_units_take_no_less(network: tuple[nn.Module, torch.Tensor, DependencyGraph], seed: int) -> None:
    _, _, graph = network
    rng = np.random.default_rng(seed)
    small = random_mask(graph, rng, 0.4)
    large = small | random_mask(graph, rng, 0.4)
    few, many = demand(graph, small), demand(graph, large)
    assert few.keys() == many.keys() and all(few[name] <= many[name] for name in few)
    assert EVERYTHING.predict(graph, small) < EVERYTHING.predict(graph)


def test_round_trip_through_json() -> None:
    seconds = {"product": {"flops": 1 / 3e10, "call": 1e-5}, "pool": {"read": 2e-9}}
    model = StepTimeModel(seconds, "cuda", "bfloat16", 2, scale=0.7)
    assert StepTimeModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    with pytest.raises(InputError, match="no model of step times.*speed"):
        StepTimeModel.from_dict({"speed": 3})


def test_anchors_must_be_times() -> None:
    graph = DependencyGraph.of(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(InputError, match="more than 0 seconds; got 0"):
        EVERYTHING.anchored(graph, 0)


def test_calibration_on_a_clock_that_counts_the_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of networks of linear layers that seem to take 2 ns a floating point operation and 1 ms a call."""
    widths = [(4, 8), (16, 8), (32, 32), (64, 16), (8, 128)]
    networks = [(nn.Sequential(*[nn.Linear(i, i) for _ in range(o // 4)]), (o, i)) for i, o in widths]
    truth = StepTimeModel({"product": {"flops": 2e-9, "call": 1e-3}}, "cpu", "float32", 4)
    by_id = {id(net): truth.predict(DependencyGraph.of(net, torch.ones(shape))) for net, shape in networks}
    monkeypatch.setattr(calibration, "micro_networks", lambda: iter(networks))
    monkeypatch.setattr(calibration, "training_step", lambda model, *args: by_id[id(model)])
    found = calibrate("cpu", seconds=0)
    assert (found.device, found.dtype, found.itemsize) == ("cpu", "float32", 4)
    assert found.seconds["product"]["flops"] == pytest.approx(2e-9)
    assert found.seconds["product"]["call"] == pytest.approx(1e-3)
