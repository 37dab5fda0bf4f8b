"""The search for a speed-up, with clocks of our own: no test here depends on the machine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.engine.cost import cost_of
from prunetune.engine.selection.ranking import Mask, Ranking
from prunetune.errors import BudgetError, InputError
from prunetune.events import Event, Notice
from prunetune.pruning import fit as shrinking
from prunetune.pruning.result import Measurement
from prunetune.pruning.speedup import ATTEMPTS, TOLERANCE, find_speedup
from prunetune.zoo import models as zoo

BASE = 8.0


def ranking(units: int = 1000) -> Ranking:
    """Of one layer whose units are worth more the later they come."""
    model = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 2))
    graph = DependencyGraph.of(model, torch.zeros(1, 4))
    return Ranking(graph, np.arange(units + 1.0), floor=1e-9, protect=(), multiple_of=1)


def search(target: float, truth: Callable[[int], float], predict: Callable[[Mask], float]) -> tuple[Any, list[int]]:
    """What is found where the network that keeps k units really takes truth(k), and where was measured."""
    places: list[int] = []
    ranks = ranking()

    def measure(below: int) -> Measurement:
        places.append(below)
        return Measurement(below, BASE, truth(int(ranks.mask(below)[1:].sum())))

    return find_speedup(ranks, target, predict, measure), places


@pytest.mark.parametrize("target", [1.5, 3.0, 7.0])
@pytest.mark.parametrize(
    "predict",
    [
        lambda keep: 0.001 * keep.sum(),  # right, but for a factor that nobody can know
        lambda keep: float(keep.sum()) ** 2,  # wrong in its shape
        lambda keep: 5.0 + 1e-6 * keep.sum(),  # believes that nothing helps
        lambda keep: 1e-9 + max(0.0, keep.sum() - 900.0),  # believes that everything does
    ],
)
def test_it_is_found_whatever_was_predicted(target: float, predict: Callable[[Mask], float]) -> None:
    found, places = search(target, lambda kept: BASE * (0.1 + 0.9 * kept / 1000), predict)
    assert found.speedup == pytest.approx(target, rel=TOLERANCE)
    assert len(places) == len(found.measurements) <= ATTEMPTS
    # t / BASE = 0.1 + 0.9 k / 1000 = 1 / target
    assert 1000 - found.below == pytest.approx((1 / target - 0.1) / 0.9 * 1000, abs=60)


def test_a_right_prediction_needs_one_measurement() -> None:
    def truth(kept: int) -> float:
        return BASE * (0.1 + 0.9 * kept / 1000)

    _, places = search(4.0, truth, lambda keep: truth(int(keep[1:].sum())))
    assert len(places) == 1


def test_what_is_out_of_reach_ends_at_the_smallest_network() -> None:
    found, places = search(20.0, lambda kept: BASE * (0.1 + 0.9 * kept / 1000), lambda keep: float(keep.sum()))
    assert places[-1] == 1000
    assert found.below == 1000 and found.speedup == pytest.approx(1 / 0.1009, rel=1e-3)


def test_the_nearest_is_taken_where_time_has_steps() -> None:
    """Like a GPU's: 1, 0.5 or 0.25 of the time, nothing between."""
    found, _ = search(
        3.0, lambda kept: BASE * (1 if kept > 600 else 0.5 if kept > 200 else 0.25), lambda keep: float(keep.sum())
    )
    assert found.speedup == 4.0 or found.speedup == 2.0
    assert found.measurements[-1].units == found.below


# -- the whole way, with a clock that counts ---------------------------------------------------------------------------

X = torch.zeros(2, 3, 16, 16)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A step takes a millisecond an operation, and a microsecond for every 1,000 FLOPs."""
    calls: list[str] = []

    def seconds(graph: DependencyGraph, keep: Mask) -> float:
        return 1e-3 * len(graph.activations) + 1e-9 * cost_of(graph, keep).flops

    def step_time(models: dict[str, nn.Module], inputs: Any, *, seconds: float = 3.0) -> dict[str, float]:
        calls.append("measured")
        return {name: true(model) for name, model in models.items()}

    def true(model: nn.Module) -> float:
        graph = DependencyGraph.of(model, X)
        return seconds(graph, np.ones(graph.unit_count + 1, dtype=bool))

    monkeypatch.setattr(shrinking, "fresh_step_time", step_time)
    monkeypatch.setattr(shrinking, "predictor", lambda full: seconds)
    return calls


def test_a_proxy_that_is_so_many_times_faster(clock: list[str]) -> None:
    model = zoo["resnet8"](10, 3)
    result = prune(model, X, scorer="magnitude", speedup=1.3)
    assert result.measurements[-1].speedup == pytest.approx(1.3, rel=TOLERANCE)
    assert len(clock) > len(result.measurements)  # what came near was measured again
    assert "1.3" in result.summary().split("step time")[1].splitlines()[0]


def test_every_measurement_is_told(clock: list[str]) -> None:
    told: list[Event] = []
    result = prune(zoo["resnet8"](10, 3), X, scorer="magnitude", speedup=1.3, observer=told.append)
    said = [event.message for event in told if isinstance(event, Notice)]
    assert said[0].startswith("timing single operations on this device")
    assert len(said) == 1 + len(result.measurements)
    assert said[-1].endswith(f"{result.measurements[-1].speedup:.3g} times faster; 1.3 is asked for")


@pytest.mark.parametrize("off", [0.82, 1.2])
def test_a_short_measurement_may_be_wrong(clock: list[str], off: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fifth: three steps of a second each, on a machine that has other guests."""
    exact = shrinking.fresh_step_time

    def step_time(models: dict[str, nn.Module], inputs: Any, *, seconds: float) -> dict[str, float]:
        times = exact(models, inputs, seconds=seconds)
        return times if seconds > 10 else {**times, "proxy": times["proxy"] * off}

    monkeypatch.setattr(shrinking, "fresh_step_time", step_time)
    result = prune(zoo["resnet8"](10, 3), X, scorer="magnitude", speedup=1.3)
    right = exact({"base": zoo["resnet8"](10, 3), "proxy": result.model}, X, seconds=20)
    assert right["base"] / right["proxy"] == pytest.approx(1.3, rel=TOLERANCE)


def test_out_of_reach_without_depth_and_within_it_with(clock: list[str]) -> None:
    model = zoo["resnet20"](10, 3)
    with pytest.raises(BudgetError, match=r"speedup=3 cannot be reached: the fastest proxy is 1\.\d+") as error:
        prune(model, X, scorer="magnitude", speedup=3)
    assert "operations of a run would still take" in str(error.value) and "depth=True" in str(error.value)
    assert 1 < error.value.nearest < 3
    result = prune(model, X, scorer="magnitude", speedup=3, depth=True)
    assert result.measurements[-1].speedup == pytest.approx(3, rel=0.1)
    assert 0 < len(result.bypassed) <= 7
    assert result.model(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    assert all(f"{name}  ->  its shortcut" in result.summary() for name in result.bypassed)


def test_even_depth_may_not_be_enough(clock: list[str]) -> None:
    with pytest.raises(BudgetError, match="all 7 residual blocks that can be bypassed are"):
        prune(zoo["resnet20"](10, 3), X, scorer="magnitude", speedup=50, depth=True)


def test_depth_keeps_the_stages_in_proportion() -> None:
    """ResNet-20 has 3, 2 and 2 blocks that add their input as it is: 7 in all, of which 3 go."""
    result = prune(zoo["resnet56"](10, 3), X, scorer="magnitude", flops=0.03, depth=True)
    stages = [name.split(".")[1] for name in result.bypassed]
    counts = [stages.count(stage) for stage in "012"]
    assert max(counts) - min(counts) <= 1 and sum(counts) > 0
    assert result.cost.proxy.flops <= 0.03 * result.cost.base.flops


def test_as_few_blocks_as_needed() -> None:
    assert prune(zoo["resnet56"](10, 3), X, scorer="magnitude", flops=0.5, depth=True).bypassed == ()


def test_depth_needs_residual_blocks() -> None:
    with pytest.raises(InputError, match="depth=True needs residual blocks .* VGG has none"):
        prune(zoo["vgg11-bn"](10, 3), torch.zeros(2, 3, 32, 32), scorer="magnitude", flops=0.1, depth=True)
