"""Costs of rungs, against numbers worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

from prunetune.errors import InputError
from prunetune.ladder.costs import Costs
from prunetune.ladder.rung import Ladder, Rung

SEVENTH = Costs({(0.25, 1.0): 1 / 7, (None, 1.0): 0.3, (0.25, 0.5): 0.05}, epochs=9)


def test_the_prototype_costs_what_was_measured() -> None:
    """64 x 1/63 + 16 x 1/21 + 4 x 1/7 + 1 = 64/63 + 48/63 + 36/63 + 63/63."""
    ladder = Ladder(
        Rung(width=1 / 4, epochs=1 / 9, trials=64, keep=16),
        Rung(width=1 / 4, epochs=1 / 3, keep=4),
        Rung(width=1 / 4, keep=1),
        Rung(),
    )
    assert SEVENTH.total(ladder) == pytest.approx(211 / 63)


def test_controls_and_new_proposals_cost_like_all_others() -> None:
    """20 x .3 + (3 + 2) x 1/21 + (1 + 2) x 1."""
    ladder = Ladder(
        Rung(width=None, trials=20, keep=3, controls=2), Rung(width=0.25, epochs=1 / 3, keep=1), Rung(trials=2)
    )
    assert SEVENTH.total(ladder) == pytest.approx(6 + 5 / 21 + 3)


@pytest.mark.parametrize(
    ("rung", "cost"),
    [
        (Rung(), 1.0),
        (Rung(width=None), 0.3),
        (Rung(width=0.25, resolution=0.5, data=0.2), 0.01),
        (Rung(epochs=0.5), 5 / 9),  # whole epochs: 4.5 are 5
        (Rung(epochs=0.01), 1 / 9),  # and at least one
        (Rung(width=0.5), math.sqrt(1 / 7)),  # halfway between 1/4 and 1, on logarithmic axes
    ],
)
def test_what_a_rung_costs(rung: Rung, cost: float) -> None:
    assert SEVENTH.of(rung) == pytest.approx(cost)


@pytest.mark.parametrize(
    "rung", [Rung(width=0.125), Rung(resolution=0.5), Rung(width=0.5, resolution=0.5), Rung(width=None, resolution=0.5)]
)
def test_what_nobody_has_measured_has_no_cost(rung: Rung) -> None:
    with pytest.raises(InputError, match="has not been measured; measured were: at 1 of the width, at 1/4"):
        SEVENTH.of(rung)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_a_step_takes_some_time(ratio: float) -> None:
    with pytest.raises(InputError, match="the step time at 1/4 of the width is"):
        Costs({(0.25, 1.0): ratio}, epochs=9)


def test_the_full_network_is_what_all_are_shares_of() -> None:
    assert Costs({}, epochs=1).of(Rung()) == 1
    with pytest.raises(InputError, match="must be 1, since it is what all are shares of"):
        Costs({(1.0, 1.0): 0.2}, epochs=9)


def test_a_trial_costs_something_besides_its_training_but_a_full_one_is_the_measure() -> None:
    """1/7 x 3/9 of a training and .01 besides; 64 of them and one in full."""
    costs = Costs({(0.25, 1.0): 1 / 7}, epochs=9, trial=0.01)
    rung = Rung(width=0.25, epochs=1 / 3)
    assert (costs.of(rung), costs.of_training(rung)) == (pytest.approx(1 / 21 + 0.01), pytest.approx(1 / 21))
    assert costs.of(Rung()) == 1
    ladder = Ladder(Rung(width=0.25, epochs=1 / 3, trials=64, keep=1), Rung())
    assert costs.total(ladder) == pytest.approx(64 / 21 + 0.64 + 1)


@pytest.mark.parametrize("costs", [SEVENTH, Costs({(0.25, 1.0): 1 / 7}, epochs=9, trial=0.01)])
def test_a_record_comes_back(costs: Costs) -> None:
    assert Costs.from_record(json.loads(json.dumps(costs.to_record()))) == costs


def test_the_record_of_an_earlier_run_has_nothing_besides_trainings() -> None:
    record = {name: each for name, each in SEVENTH.to_record().items() if name != "trial"}
    assert Costs.from_record(record) == SEVENTH
