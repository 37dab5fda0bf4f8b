"""Sizes that decide out of sight: the cut network's own run shows it, and what its code reads is kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunetune import PruneResult, prune
from prunetune.engine.ways import Call, CallChecker, OtherWayError
from prunetune.errors import InputError, PlanError, TraceError
from prunetune.testing.oracle import largest_error, randomise


class Layers(nn.Module):
    """A layer out of a list, by a width: Python's lists tell nobody which index they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.o = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.functions = [torch.sin, torch.relu]

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.o(self.m(self.functions[x.shape[1] // 4 - 1](x)).relu())


class SameFunctions(Layers):
    """The other layer differs in nothing but its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.others = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.o(self.m([*self.others][x.shape[1] // 4 - 1](x)).relu())


class Swallows(Layers):
    def forward(self, x: Tensor) -> Tensor:
        try:
            return super().forward(x)
        except Exception:
            return x[:, :3]


class Loops(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        for _ in range(x.shape[1] // 4):
            x = x + x.sin()
        return self.o(self.m(x).relu())


class Amount(Layers):
    """Rolls by a float times a width, which float does by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.m(self.a(x)).roll(int(0.25 * self.a(x).shape[1]), 1))


@pytest.mark.parametrize("kind", [Layers, SameFunctions, Swallows, Loops, Amount])
@pytest.mark.parametrize("seed", range(3))
def test_what_the_code_reads_is_kept_where_it_decides(kind: type[nn.Module], seed: int) -> None:
    model, x = randomise(kind(), seed), torch.randn(5, 4, dtype=torch.float64)
    result = prune(model, x, scorer="random", seed=seed, ratio=0.5)
    assert result.model.a.out_features == 8
    assert result.plan.tensors, "the other layers have nothing to do with it"
    assert any(f.node.startswith("test_ways.py:") for f in result.frozen)
    assert largest_error(model, result.model, result.plan, x) < 1e-12


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n = int(0.5 * x.shape[1])
        return self.o(torch.cat([x[:, :n], -x[:, n:]], 1))


def test_where_nothing_else_is_left_the_line_is_named() -> None:
    line = Half.forward.__code__.co_firstlineno + 2
    with pytest.raises(InputError, match=rf"no channels that can be removed: .*test_ways.py:{line}: the code computes"):
        prune(Half(), torch.ones(2, 4), ratio=0.5)


# -- fractions ---------------------------------------------------------------------------------------------------------

SCALES: dict[str, Callable[[Tensor], Any]] = {
    "1 / c": lambda x: x * (1 / x.shape[1]),
    "0.5 / c": lambda x: x * (0.5 / x.shape[1]),
    "c ** -0.5": lambda x: x * x.shape[1] ** -0.5,
    "math.sqrt(c)": lambda x: x / math.sqrt(x.shape[1]),
    "a tensor's": lambda x: x / torch.sqrt(torch.tensor(float(x.shape[1]), dtype=x.dtype)),
    "an epsilon": lambda x: x / (x.sum(1, keepdim=True).abs() + 1 / x.shape[1]),
    "c": lambda x: x / x.shape[1],
    "a tensor of c": lambda x: x / torch.tensor(x.shape[1]),
    "filled": lambda x: x * torch.full_like(x, x.shape[1]),
    "mean": lambda x: x - x.mean(1, keepdim=True),
    "amax": lambda x: x - x.amax(1, keepdim=True),
    "softmax": lambda x: x.softmax(1),
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x, x.shape[1:]),
}


class Scaled(nn.Module):
    def __init__(self, scale: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.a, self.o, self.scale = nn.Linear(4, 8), nn.Linear(8, 3), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.scale(self.a(x)))


def of_scale(name: str) -> PruneResult:
    model = randomise(Scaled(SCALES[name]), 0)
    return prune(model, torch.randn(2, 4, dtype=torch.float64), scorer="random", ratio=0.5)


@pytest.mark.parametrize("name", SCALES)
def test_values_that_depend_on_how_many_channels_there_are_are_named(name: str) -> None:
    result = of_scale(name)
    assert result.model.a.out_features == 4
    assert result.reductions
    assert "sees less" in result.summary()


def test_a_fraction_is_named_with_its_line_and_both_values() -> None:
    (reduction,) = of_scale("c ** -0.5").reductions
    line = SCALES["c ** -0.5"].__code__.co_firstlineno
    assert reduction.node == f"mul at test_ways.py:{line}"
    assert "by 0.353553 in the full network and 0.5 here" in reduction.reason


def test_sums_and_fixed_numbers_are_not_named() -> None:
    model = Scaled(lambda x: (x * 0.25 + x.sum(1, keepdim=True)) / x.shape[0])
    assert prune(model, torch.ones(2, 4), scorer="random", ratio=0.5).reductions == ()


# -- the checker ----------------------------------------------------------------------------------------------------

EXPECTED = Call("roll", ("a.weight",), (3, 0.5), ((2, 4),))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call("flip", ("a.weight",), (3, 0.5), ((2, 4),)), "operation 1 was roll, and is now flip"),
        (Call("roll", ("b.weight",), (3, 0.5), ((2, 4),)), "roll, was given a.weight, and is now b.weight"),
        (Call("roll", ("a.weight",), (2, 0.5), ((2, 4),)), "roll, was given 3, and is now 2"),
        (Call("roll", ("a.weight",), (3,), ((2, 4),)), "so many numbers: 2, and is now 1"),
        (Call("roll", ("a.weight",), (3, 0.5), ((2, 5),)), "roll, was to give 2, 4, and is now 2, 5"),
    ],
)
def test_any_difference_is_seen(call: Call, message: str) -> None:
    with pytest.raises(OtherWayError, match=message):
        CallChecker([EXPECTED]).compare(call)


def test_an_end_that_comes_early_or_late_is_seen() -> None:
    with pytest.raises(OtherWayError, match="was roll, and is now nothing"):
        CallChecker([EXPECTED]).end()
    checker = CallChecker([EXPECTED])
    checker.compare(EXPECTED)
    checker.end()
    with pytest.raises(OtherWayError, match="operation 2 was nothing, and is now roll"):
        checker.compare(EXPECTED)


def test_fractions_are_noted() -> None:
    checker = CallChecker([EXPECTED])
    checker.compare(Call("roll", ("a.weight",), (3, 0.25), ((2, 4),)))
    assert [(s.name, s.before, s.after) for s in checker.fractions] == [("roll", 0.5, 0.25)]


# -- lines -------------------------------------------------------------------------------------------------------------


class Raises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        raise ValueError("not today")


def test_an_error_names_the_line_of_the_models_code() -> None:
    line = Raises.forward.__code__.co_firstlineno + 2
    with pytest.raises(TraceError, match=rf"ValueError at test_ways.py:{line}: not today"):
        prune(Raises(), torch.ones(2, 4))


def test_of_a_module_of_torchs_own_it_names_that() -> None:
    model = nn.Transformer(8, 2, 1, 1, 8, batch_first=True)
    with pytest.raises(TraceError, match=r"RuntimeError at transformer.py:\d+: the batch number of src and tgt"):
        prune(model, (torch.ones(2, 3, 8), torch.ones(3, 3, 8)))


RUNS = itertools.count(1)


class Counts(nn.Module):
    """Does more every time it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        for _ in range(next(RUNS)):
            x = x.sin()
        return self.o(x)


def test_what_changes_by_itself_is_refused_at_its_line() -> None:
    line = Counts.forward.__code__.co_firstlineno + 3
    with pytest.raises(PlanError, match=rf"takes another way .* at test_ways.py:{line}: operation \d+ was"):
        prune(Counts(), torch.ones(2, 4), scorer="magnitude", ratio=0.5)
