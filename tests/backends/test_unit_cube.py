"""Hyperparameters in the unit cube: values worked out by hand, and round trips of all kinds."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from prunetune.backends.samplers.stateless import sobol
from prunetune.backends.samplers.unit_cube import UnitCube, from_unit, to_unit

KINDS: dict[str, BaseDistribution] = {
    "float": FloatDistribution(-1.0, 3.0),
    "log": FloatDistribution(0.1, 0.3, log=True),  # exp(log(0.1)) > 0.1, and exp(log(0.3)) < 0.3
    "tiny": FloatDistribution(1e-12, 1e-9, log=True),
    "step": FloatDistribution(0.1, 0.7, step=0.2),
    "int": IntDistribution(-3, 4),
    "step-int": IntDistribution(16, 256, step=16),
    "log-int": IntDistribution(32, 1024, log=True),
    "mixed": CategoricalDistribution([None, True, 2, 3.5, "text"]),
}


@pytest.mark.parametrize(
    ("u", "kind", "value"),
    [
        (0.25, "float", 0.0),
        (0.5, "log", math.sqrt(0.03)),
        (0.0, "log", 0.1),
        (1.0, "log", 0.3),
        (0.49, "step", 0.3),  # of four values the second
        (0.5, "step", 0.5),
        (0.0, "int", -3),
        (1.0, "int", 4),
        (0.124, "int", -3),  # of eight values the first
        (0.126, "int", -2),
        (0.5, "step-int", 144),
        (0.0, "log-int", 32),
        (1.0, "log-int", 1024),
        (0.39, "mixed", True),
        (1.0, "mixed", "text"),
        (-1e-15, "float", -1.0),  # what an optimizer may answer by rounding
        (1 + 1e-15, "float", 3.0),
        (1 + 1e-15, "log-int", 1024),
    ],
)
def test_values_by_hand(u: float, kind: str, value: object) -> None:
    found = from_unit(u, KINDS[kind])
    assert found == pytest.approx(value) if isinstance(value, float) else found == value
    assert type(found) is type(value)


def test_round_trips() -> None:
    """Whole numbers, steps and choices come back as they were; floats as far as logarithms are exact."""
    cube, drawn = UnitCube(KINDS), random.Random(0)
    assert cube.size == 7 + 5
    for _ in range(3000):
        params = {name: from_unit(drawn.random(), kind) for name, kind in KINDS.items()}
        point = cube.to_unit(params)
        assert point.min() >= 0.0
        assert point.max() <= 1.0
        back = cube.from_unit(point)
        for name in ("step", "int", "step-int", "log-int", "mixed"):
            assert back[name] == params[name]
        for name in ("float", "log", "tiny"):
            assert back[name] == pytest.approx(params[name], rel=1e-12)
            assert KINDS[name]._contains(back[name])
        assert json.loads(json.dumps(back)) == back  # nothing of numpy's


def test_the_ends_of_a_range_stay_in_the_cube() -> None:
    rng = np.random.default_rng(0)
    for low, high in np.sort(10 ** rng.uniform(-9, 3, (2000, 2))):
        distribution = FloatDistribution(float(low), float(high), log=True)
        assert to_unit(float(low), distribution) >= 0.0
        assert to_unit(float(high), distribution) <= 1.0


def test_all_whole_numbers_of_a_logarithmic_range_can_come() -> None:
    counts = {from_unit(u, IntDistribution(1, 8, log=True)) for u in np.linspace(0, 1, 200)}
    assert counts == set(range(1, 9))


def test_sobol_points_are_a_net() -> None:
    """Of the first 16 in each dimension one in each sixteenth: what scrambling leaves of a Sobol sequence."""
    for dimension in range(4):
        values = [sobol(7, index, dimension) for index in range(16)]
        assert sorted(int(16 * value) for value in values) == list(range(16))
    assert sobol(7, 3, 2) != sobol(8, 3, 2)
