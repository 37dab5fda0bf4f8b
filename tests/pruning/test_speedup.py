"""The search for a speed-up, with clocks of our own: no test here depends on the machine's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from prunetune.pruning import fit
from prunetune.pruning.result import Measurement
from prunetune.pruning.speedup import (
    ATTEMPTS,
    SECONDS_A_BYTE,
    SECONDS_A_FLOP,
    SECONDS_AN_OPERATION,
    TOLERANCE,
    Bracket,
    Correction,
    predicted_seconds,
)
from prunetune.zoo import models as zoo

BASE = 8.0


def ranking(units: int = 1000) -> Ranking:
    """Of one layer whose units are worth more the later they come."""
    model = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 2))
    graph = DependencyGraph.of(model, torch.zeros(1, 4))
    return Ranking(graph, np.arange(units + 1.0), floor=1e-9, protect=(), multiple_of=1)


def search(target: float, truth: Callable[[int], float], predict: Callable[[Mask], float]) -> Bracket:
    """What is found where the network that keeps k units really takes truth(k)."""
    ranks, correction = ranking(), Correction()
    bracket = Bracket(ranks, target)
    whole = predict(ranks.mask(0))
    while not (bracket.is_met or bracket.is_over):
        below = bracket.next(lambda keep: correction(predict(keep) / whole))
        found = Measurement(below, BASE, truth(int(ranks.mask(below)[1:].sum())))
        correction.learn(predict(ranks.mask(below)) / whole, 1 / found.speedup)
        bracket.add(found)
    return bracket


def line(kept: int) -> float:
    return BASE * (0.1 + 0.9 * kept / 1000)


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
    found = search(target, line, predict)
    assert found.nearest.speedup == pytest.approx(target, rel=TOLERANCE)
    assert len(found.met) <= ATTEMPTS
    # t / BASE = 0.1 + 0.9 k / 1000 = 1 / target
    assert 1000 - found.nearest.units == pytest.approx((1 / target - 0.1) / 0.9 * 1000, abs=60)


def test_a_right_prediction_needs_one_measurement() -> None:
    assert len(search(4.0, line, lambda keep: line(int(keep[1:].sum()))).met) == 1


@pytest.mark.parametrize("power", [0.7, 0.8, 1.25, 1.4])
def test_a_prediction_that_is_wrong_by_a_power_needs_three(power: float) -> None:
    """At a fifth of the time it is off by 1.4 to 1.9, as much as for the thinnest cuts of ResNet-56."""
    found = search(5.0, lambda kept: BASE * (kept / 1000) ** power, lambda keep: float(keep[1:].sum()))
    assert len(found.met) <= 3 and found.is_met


def test_what_is_out_of_reach_ends_at_the_smallest_network() -> None:
    found = search(20.0, line, lambda keep: float(keep.sum()))
    assert found.met[-1].units == 1000 and not found.is_met
    assert found.nearest.speedup == pytest.approx(1 / 0.1009, rel=1e-3)


def test_the_nearest_is_taken_where_time_has_steps() -> None:
    """Like a GPU's: 1, 0.5 or 0.25 of the time, nothing between."""
    found = search(
        3.0, lambda kept: BASE * (1 if kept > 600 else 0.5 if kept > 200 else 0.25), lambda keep: float(keep.sum())
    )
    assert found.is_met and found.nearest.speedup in (2.0, 4.0)


def test_predicted_seconds_by_hand() -> None:
    """Two images of 4 x 4; a convolution 3 -> 10 makes 2 x 2 places, a linear layer 40 -> 5."""
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5))
    graph = DependencyGraph.of(model, torch.ones(2, 3, 4, 4))
    keep = np.ones(graph.unit_count + 1, dtype=bool)
    flops, elements = 2 * 2 * 4 * 9 * 3 * 10 + 2 * 2 * 40 * 5, 80 + 80 + 10
    by_hand = SECONDS_A_FLOP * flops + SECONDS_A_BYTE * 4 * elements + SECONDS_AN_OPERATION * 3  # a view is none
    assert predicted_seconds(graph, keep) == pytest.approx(by_hand)


# -- the whole way, with a clock that counts ---------------------------------------------------------------------------

X = torch.zeros(2, 3, 16, 16)


def right(model: nn.Module) -> float:
    """A step takes a millisecond an operation, and a microsecond for every 1,000 FLOPs."""
    graph = DependencyGraph.of(model, X)
    return seconds(graph, np.ones(graph.unit_count + 1, dtype=bool))


def seconds(graph: DependencyGraph, keep: Mask) -> float:
    return 1e-3 * len(graph.activations) + 1e-9 * cost_of(graph, keep).flops


class Clock:
    """In place of a timer: a first, short measurement of a candidate is wrong by a factor."""

    def __init__(self) -> None:
        self.off = 1.0
        self.again = 0

    @contextmanager
    def timer(self, base: nn.Module, inputs: object) -> Iterator[Callable[..., tuple[float, float]]]:
        def measured(candidate: nn.Module, *, again: bool = False, seconds: float) -> tuple[float, float]:
            self.again += again
            return right(base), right(candidate) * (1.0 if again else self.off)

        yield measured


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(fit, "step_timer", made.timer)
    monkeypatch.setattr(fit, "predicted_seconds", seconds)
    return made


def test_a_proxy_that_is_so_many_times_faster(clock: Clock) -> None:
    model = zoo["resnet8"](10, 3)
    result = prune(model, X, scorer="magnitude", speedup=1.3)
    assert result.measurements[-1].speedup == pytest.approx(1.3, rel=TOLERANCE)
    assert len(result.measurements) == clock.again == 1  # the prediction is right, and what came near is timed again
    assert "1.3" in result.summary().split("step time")[1].splitlines()[0]


def test_every_measurement_is_told(clock: Clock) -> None:
    clock.off = 1.07
    told: list[Event] = []
    result = prune(zoo["resnet8"](10, 3), X, scorer="magnitude", speedup=1.3, observer=told.append)
    said = [event.message for event in told if isinstance(event, Notice)]
    assert said[0].startswith("timing training steps on this device")
    assert len(said) == 1 + len(result.measurements) > 2
    assert said[-1].endswith(f"{result.measurements[-1].speedup:.3g} times faster; 1.3 is asked for")


@pytest.mark.parametrize("off", [0.93, 1.07])
def test_a_short_measurement_may_be_wrong(clock: Clock, off: float) -> None:
    clock.off = off
    result = prune(zoo["resnet8"](10, 3), X, scorer="magnitude", speedup=1.3)
    assert right(zoo["resnet8"](10, 3)) / right(result.model) == pytest.approx(1.3, rel=0.05)


def test_depth_is_chosen_by_what_was_measured(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prediction that knows only FLOPs believes that no block must go; what is measured says how many must."""
    monkeypatch.setattr(fit, "predicted_seconds", lambda graph, keep: 1e-9 * cost_of(graph, keep).flops)
    result = prune(zoo["resnet20"](10, 3), X, scorer="magnitude", speedup=2.2, depth=True)
    assert right(zoo["resnet20"](10, 3)) / right(result.model) == pytest.approx(2.2, rel=TOLERANCE)
    assert 0 < len(result.bypassed) < 7


def test_out_of_reach_without_depth_and_within_it_with(clock: Clock) -> None:
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


def test_even_depth_may_not_be_enough(clock: Clock) -> None:
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
