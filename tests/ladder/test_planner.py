"""The planner: the shape of the issue, worked out by hand, and properties of random costs and budgets."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunetune.errors import InputError
from prunetune.ladder.costs import Costs
from prunetune.ladder.plan import Plan
from prunetune.ladder.planner import plan
from prunetune.ladder.rung import Ladder, Rung

DEAR = Costs({(1 / 2, 1.0): 0.3, (1 / 4, 1.0): 1 / 7, (1 / 8, 1.0): 0.12}, epochs=9)  # 1/8 does not pay: .84 of 1/4
CHEAP = Costs({(1 / 2, 1.0): 0.3, (1 / 4, 1.0): 0.07, (1 / 8, 1.0): 0.02}, epochs=27)


def kinds(made: Plan) -> list[tuple[float | None, float]]:
    return [(rung.width, rung.epochs) for rung in made.ladder.rungs]


def test_the_default_is_the_prototype() -> None:
    """64 x 1/63 + 16 x 3/63 + 4 x 9/63 + 1 = 211/63."""
    made = plan(DEAR, controls=False)
    assert made.ladder == Ladder(
        Rung(width=1 / 4, epochs=1 / 9, trials=64, keep=16),
        Rung(width=1 / 4, epochs=1 / 3, keep=4),
        Rung(width=1 / 4, keep=1),
        Rung(),
    )
    assert made.prices == pytest.approx((1 / 63, 1 / 21, 1 / 7, 1))
    assert made.spending == pytest.approx((64 / 63, 48 / 63, 36 / 63, 1))
    assert made.total == pytest.approx(211 / 63)
    assert plan(DEAR, budget=211 / 63, controls=False).ladder == made.ladder


def test_controls_are_among_those_who_are_counted() -> None:
    made = plan(DEAR)
    assert made.ladder.entrants == (64, 16, 4, 1)
    assert [(rung.keep, rung.controls) for rung in made.ladder.rungs] == [(13, 3), (4, 0), (1, 0), (None, 0)]


def test_the_narrowest_that_pays_is_the_first_and_a_quarter_comes_after_it() -> None:
    assert kinds(plan(CHEAP)) == [(1 / 8, 1 / 9), (1 / 4, 1 / 3), (1 / 4, 1), (1, 1)]
    no_quarter = Costs({(1 / 2, 1.0): 0.3, (1 / 8, 1.0): 0.02}, epochs=27)  # as far from 1/4: the wider one
    assert kinds(plan(no_quarter)) == [(1 / 8, 1 / 9), (1 / 2, 1 / 3), (1 / 2, 1), (1, 1)]
    only_half = Costs({(1 / 2, 1.0): 0.3, (1 / 4, 1.0): 0.29, (1 / 8, 1.0): 0.28}, epochs=27)
    assert kinds(plan(only_half)) == [(1 / 2, 1 / 9), (1 / 2, 1 / 3), (1 / 2, 1), (1, 1)]


def test_a_rung_that_costs_more_than_half_of_the_next_is_none() -> None:
    """Of one epoch: a quarter costs .115, an eighth .06, more than half of it; at .05 it is a rung."""
    steps = {(1 / 4, 1.0): 0.115, (1 / 8, 1.0): 0.06}
    assert kinds(plan(Costs(steps, epochs=1))) == [(1 / 4, 1), (1, 1)]
    assert kinds(plan(Costs({**steps, (1 / 8, 1.0): 0.05}, epochs=1))) == [(1 / 8, 1), (1 / 4, 1), (1, 1)]
    assert kinds(plan(Costs({(1 / 2, 1.0): 0.6}, epochs=1))) == [(1, 1)]


def test_an_axis_that_does_not_pay_is_left_out_and_said() -> None:
    """.12 at an eighth is .84 of 1/7 at a quarter; .8 would be .114."""
    made = plan(DEAR)
    assert {rung.width for rung in made.ladder.rungs} == {1 / 4, 1.0}
    (why,) = made.reasons
    assert why.startswith(
        "No rung has 1/8 of the width, which saves too little: a step takes 0.12 of the full network's"
    )
    assert why.endswith("and 0.143 at 1/4.")
    assert plan(Costs({**DEAR.steps, (1 / 8, 1.0): 0.8 / 7}, epochs=9)).ladder.rungs[0].width == 1 / 8


def test_small_images_are_for_the_first_rung_where_they_pay() -> None:
    pays = Costs({**DEAR.steps, (1 / 4, 0.5): 0.1}, epochs=9)
    assert [rung.resolution for rung in plan(pays).ladder.rungs] == [0.5, 1, 1, 1]
    does_not = Costs({**DEAR.steps, (1 / 4, 0.5): 0.12}, epochs=9)
    made = plan(does_not)
    assert made.ladder == plan(DEAR).ladder
    assert (
        "at 1/2 of the resolution a step takes 0.12 of the full network's, and 0.143 with whole images"
        in made.reasons[-1]
    )


def test_where_no_width_pays_small_images_are_the_cheap_network() -> None:
    made = plan(Costs({(1 / 4, 1.0): 0.9, (1.0, 0.5): 0.3}, epochs=9), budget=4)
    assert [(r.width, r.resolution, r.epochs) for r in made.ladder.rungs] == [
        (1, 0.5, 1 / 9),
        (1, 0.5, 1 / 3),
        (1, 0.5, 1),
        (1, 1, 1),
    ]


def test_where_no_network_is_cheaper_epochs_are_left() -> None:
    """The default shape of two rungs is 64 → 8 → 1, which would cost 64/9 + 8/3 + 1 = 10.8; it is made to cost 3.4."""
    made = plan(Costs({(1 / 4, 1.0): 0.9}, epochs=9))
    assert kinds(made) == [(1, 1 / 9), (1, 1 / 3), (1, 1)]
    assert 3.4 - 1 / 9 < made.total <= 3.4


def test_where_nothing_is_cheaper_all_are_trained_in_full() -> None:
    made = plan(Costs({(1 / 4, 1.0): 0.9}, epochs=1), budget=3.9)
    assert made.ladder == Ladder(Rung(trials=3))
    assert made.reasons[-1].startswith("Nothing is cheaper than the full network here")
    assert plan(Costs({}, epochs=1)).ladder == Ladder(Rung(trials=3))
    assert plan(Costs({}, epochs=1), trials=7).ladder == Ladder(Rung(trials=7))
    assert plan(DEAR, trials=1).ladder == Ladder(Rung(trials=1))


@pytest.mark.parametrize(
    ("steps_per_epoch", "first", "second"),
    [(30, 1 / 9, 1 / 3), (29, 1 / 3, None), (10, 1 / 3, None), (9, None, None), (None, 1 / 9, 1 / 3)],
)
def test_trainings_of_under_30_steps_are_left_out(
    steps_per_epoch: int | None, first: float | None, second: float | None
) -> None:
    """Of 9 epochs: one is under 30 steps with 29 steps an epoch; three are with 9."""
    made = plan(DEAR, steps_per_epoch=steps_per_epoch)
    assert [share for _, share in kinds(made)[:-2]] == [share for share in (first, second) if share]


def test_a_larger_budget_raises_the_first_number_first() -> None:
    base = plan(DEAR, controls=False)
    for more in (0.1, 0.5, 1.0):  # until 8 times as many are on the first rung as on the second: 128
        assert plan(DEAR, budget=base.total + more).ladder.entrants[1:] == (16, 4, 1)
    assert plan(DEAR, budget=base.total + 1.01).ladder.entrants == (127, 16, 4, 1)  # 63 x 1/63 more
    assert plan(DEAR, budget=6).ladder.entrants[2] > 4


def test_what_a_large_budget_does_not_buy_is_said() -> None:
    """512/63 + 64/21 + 8/7 + 1 = 13.3."""
    made = plan(DEAR, budget=20)
    assert made.ladder.entrants == (512, 64, 8, 1)
    assert "The rest of the budget of 20 stays unspent" in made.reasons[-1]


def test_two_are_trained_in_full_where_proxies_are_poor_and_the_budget_is_four() -> None:
    assert plan(DEAR, budget=4, poor=True).ladder.entrants[-1] == 2
    assert plan(DEAR, budget=3.99, poor=True).ladder.entrants[-1] == 1
    assert plan(DEAR, budget=4).ladder.entrants[-1] == 1
    assert plan(DEAR, budget=4, trials=3, poor=True).ladder.entrants == (3, 1)  # with two of three nothing is decided


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_above_zero(budget: float) -> None:
    with pytest.raises(InputError, match="but it must be a number above 0"):
        plan(DEAR, budget=budget)


def test_less_than_the_least_is_refused_and_the_least_is_named() -> None:
    """1 + 2/63 = 1.0317."""
    with pytest.raises(InputError, match=r"budget is 0.5 full trainings, but the least is 1.032: a training"):
        plan(DEAR, budget=0.5)
    with pytest.raises(InputError, match="the least is 1.032"):
        plan(DEAR, budget=1.03)
    assert plan(DEAR, budget=1.032).ladder.entrants == (2, 1)
    with pytest.raises(InputError, match="but the least is 1: a training of the full network"):
        plan(Costs({}, epochs=1), budget=0.99)


def test_a_record_comes_back() -> None:
    for made in (plan(DEAR), plan(CHEAP, budget=20), plan(Costs({}, epochs=1))):
        assert Plan.from_record(json.loads(json.dumps(made.to_record()))) == made


def test_a_plan_says_what_is_trained() -> None:
    assert str(plan(DEAR)) == (
        "64 × 1/4 of the width, 1/9 of the epochs → 16 × 1/4 of the width, 1/3 of the epochs → 4 × 1/4 of the width → "
        "1 × the full network: 3.35 full trainings"
    )


RATIOS = st.floats(0.01, 1.2)
COSTS = st.builds(
    lambda half, quarter, eighth, small, epochs: Costs(
        {(1 / 2, 1.0): half, (1 / 4, 1.0): quarter, (1 / 8, 1.0): eighth, (1 / 8, 0.5): eighth * small}, epochs
    ),
    RATIOS,
    RATIOS,
    RATIOS,
    st.floats(0.2, 1.2),
    st.integers(1, 60),
)


def cheapest(costs: Costs, **more: object) -> float:
    """What the least costs, as the error says."""
    with pytest.raises(InputError) as error:
        plan(costs, budget=1e-6, **more)  # type: ignore[arg-type]
    return float(str(error.value).split("the least is ")[1].split(":")[0])


@given(COSTS, st.floats(0, 15), st.none() | st.integers(1, 100), st.none() | st.integers(1, 40), st.booleans())
def test_every_budget_from_the_least_on_is_kept(costs, more, steps, trials, poor) -> None:  # type: ignore[no-untyped-def]
    budget = cheapest(costs, steps_per_epoch=steps, trials=trials) + more
    made = plan(costs, budget=budget, steps_per_epoch=steps, trials=trials, poor=poor)
    assert made.total <= budget + 1e-6
    assert made.total == pytest.approx(costs.total(made.ladder))
    assert made.prices == tuple(costs.of(rung) for rung in made.ladder.rungs)
    entrants = made.ladder.entrants
    assert entrants[-1] <= (2 if poor and budget >= 4 else 1) or len(entrants) == 1
    for n, above in pairwise(entrants):
        assert 2 * above <= n
        assert n <= 8 * above or len(entrants) == 2  # a single rung below the last has up to 64
    for price, dearer in pairwise(made.prices):
        assert price <= dearer / 2 + 1e-6
    if trials:
        assert entrants[0] <= trials
    if made.total < budget - max(made.prices[0], 1e-6) and len(entrants) > 1 and not trials:
        assert entrants[0] == 64 * entrants[1] if len(entrants) == 2 else entrants[0] > 8 * entrants[1] - 8


@given(COSTS, st.floats(1, 20), st.floats(1, 20))
def test_a_larger_budget_never_buys_less(costs, one, other) -> None:  # type: ignore[no-untyped-def]
    least = cheapest(costs) - 1
    small, large = (plan(costs, budget=least + budget, controls=False) for budget in sorted((one, other)))
    assert large.total >= small.total - small.prices[0] - 1e-6
    there = {rung.kind: n for rung, n in zip(large.ladder.rungs, large.ladder.entrants, strict=True)}
    for rung, n in list(zip(small.ladder.rungs, small.ladder.entrants, strict=True))[1:]:
        assert there[rung.kind] >= n
    assert small.ladder.rungs[0].kind == large.ladder.rungs[0].kind


@pytest.mark.parametrize(
    ("epochs", "shares"), [(2, {1 / 2}), (3, {1 / 3}), (10, {1 / 10, 3 / 10}), (160, {1 / 9, 1 / 3})]
)
def test_shares_of_epochs_are_those_that_are_trained(epochs: int, shares: set[float]) -> None:
    """One of two epochs is a half, whatever was wanted; 18 of 160 are called a ninth."""
    steps = {(1 / 2, 1.0): 0.4, (1 / 4, 1.0): 0.15, (1 / 8, 1.0): 0.05}
    made = plan(Costs(steps, epochs), budget=4)
    assert {rung.epochs for rung in made.ladder.rungs} - {1.0} == shares
