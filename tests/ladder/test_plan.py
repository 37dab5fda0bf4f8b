"""What becomes of a plan on the way: shrunk to what is left, widened where a rung ranks badly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunetune.errors import InputError
from prunetune.ladder.costs import Costs
from prunetune.ladder.plan import Plan
from prunetune.ladder.planner import plan
from prunetune.ladder.rung import Ladder, Rung

PLAN = Plan(
    Ladder(
        Rung(width=1 / 4, epochs=1 / 9, trials=64, keep=13, controls=3),
        Rung(width=1 / 4, epochs=1 / 3, keep=4),
        Rung(width=1 / 4, keep=1),
        Rung(),
    ),
    (1 / 63, 1 / 21, 1 / 7, 1.0),
)


def test_what_fits_stays_as_it_is() -> None:
    assert PLAN.shrunk(0, spent=0, left=3.35) is PLAN
    assert PLAN.shrunk(1, spent=64 / 63, left=2.334) is PLAN  # 48/63 + 36/63 + 1 = 147/63 = 2.3333
    assert PLAN.shrunk(3, spent=0.1, left=5) is PLAN


def test_half_of_what_is_to_come() -> None:
    """8 x 1/21 + 2 x 1/7 + 1 = 1.667; the pace is as predicted."""
    made = PLAN.shrunk(1, spent=64 / 63, left=1.667)
    assert made.ladder.entrants == (64, 8, 2, 1)
    assert made.ladder.rungs[0] == Rung(width=1 / 4, epochs=1 / 9, trials=64, keep=8)  # controls are the first to go
    assert made.reasons == ("The plan shrank from 16 → 4 → 1 to 8 → 2 → 1, since 1.67 full trainings were left.",)


def test_a_slow_machine_leaves_less() -> None:
    """Twice as slow over 64/63 + 48/63 = 1.778, and .1 at the predicted pace: (3.556 + .1) / 1.878 = 1.947."""
    assert PLAN.pace(2, 0, 2 * 112 / 63) == pytest.approx(1.947, abs=1e-3)
    # 1.947 x (2 x 1/7 + 1) = 2.503, and 1.947 x (3/7 + 1) = 2.781.
    assert PLAN.shrunk(2, spent=2 * 112 / 63, left=2.51).ladder.entrants == (64, 16, 2, 1)
    assert PLAN.shrunk(2, spent=2 * 112 / 63, left=2.79).ladder.entrants == (64, 16, 3, 1)
    assert "at 1.95 times the predicted time" in PLAN.shrunk(2, spent=2 * 112 / 63, left=2.51).reasons[0]
    assert PLAN.pace(0, 0, 0) == 1


def test_little_too_much_takes_little() -> None:
    """211/63 were planned, 3.349; without one of the first rung it is 210/63 = 3.333."""
    assert PLAN.shrunk(0, spent=0, left=3.34).ladder.entrants == (63, 16, 4, 1)
    assert PLAN.shrunk(0, spent=0, left=3.2).ladder.entrants[2:] == (4, 1)


def test_a_rung_on_which_nobody_is_dropped_is_left_out() -> None:
    """3/8 of 16 and 4 are 6 and 2, and 6/21 + 2/7 is too much; of less, 4 are 1, who is not asked: 6/21 + 1 = 1.286."""
    made = PLAN.shrunk(1, spent=64 / 63, left=1.35)
    assert made.ladder.entrants == (64, 6, 1)
    assert [rung.width for rung in made.ladder.rungs] == [1 / 4, 1 / 4, 1]
    assert made.prices == (1 / 63, 1 / 21, 1)


def test_the_full_training_is_never_dropped() -> None:
    made = PLAN.shrunk(1, spent=64 / 63, left=0.2)
    assert made.ladder.entrants == (64, 1)
    assert "kept, even if there is no time for it" in made.reasons[0]
    assert PLAN.shrunk(0, spent=0, left=0).ladder == Ladder(Rung(trials=1))


def test_an_earlier_shrinking_is_taken_back() -> None:
    shrunk = PLAN.shrunk(0, 10, spent=1, left=2)
    assert shrunk.ladder.entrants < PLAN.ladder.entrants
    assert PLAN.shrunk(0, 30, spent=30 / 63, left=3) is PLAN


def test_confirmations_shrink_too_and_new_proposals_go_first() -> None:
    confirm = Plan(Ladder(Rung(width=None, trials=50, keep=3), Rung(trials=3)), (0.1, 1.0))
    assert confirm.shrunk(1, spent=5, left=6).ladder.entrants == (50, 6)
    assert confirm.shrunk(1, spent=5, left=4.5).ladder == Ladder(Rung(width=None, trials=50, keep=3), Rung(trials=1))
    assert confirm.shrunk(1, 2, spent=7, left=0.5).ladder.entrants == (50, 2)


def test_rungs_with_proposals_of_their_own() -> None:
    """8 x .5 + 3 x 1 = 7 are to come. Half of it are 4 x .5 + 2 x 1 = 4; of less, 3 are 1: 4 x .5 + 1 x 1 = 3."""
    own = Plan(
        Ladder(Rung(width=0.5, epochs=0.2, trials=10, keep=3), Rung(width=0.5, trials=5, keep=1), Rung(trials=2)),
        (0.1, 0.5, 1.0),
    )
    made = own.shrunk(1, spent=1, left=3.5)
    assert made.ladder.rungs[1:] == (Rung(width=0.5, trials=1, keep=1), Rung())


def test_a_rung_that_decides_nothing_goes_only_where_it_must() -> None:
    idle = Plan(Ladder(Rung(width=0.5, trials=1, keep=1), Rung()), (0.5, 1.0))
    assert idle.shrunk(0, spent=0, left=1.5) is idle
    assert idle.shrunk(0, spent=0, left=1.2).ladder == Ladder(Rung(trials=1))


RUNGS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 6), st.integers(0, 6), st.floats(0.001, 1.0)),
    max_size=4,
)


def some_plan(rows: list[tuple[int, int, int, int, float]], finals: int) -> Plan:
    """Any ladder, also with proposals on later rungs and with controls."""
    rungs, here = [], 0
    for place, (trials, keep, controls, new, _) in enumerate(rows):
        proposed = new if place else trials
        here += proposed
        keep = min(keep, here)
        controls = min(controls, here - keep)
        rungs.append(Rung(width=0.5, epochs=(place + 1) / 10, trials=proposed, keep=keep, controls=controls))
        here = keep + controls
    return Plan(Ladder(*rungs, Rung(trials=finals)), (*(row[-1] for row in rows), 1.0))


@given(RUNGS, st.integers(1, 4), st.data())
def test_any_ladder_is_shrunk_to_what_is_left(rows, finals, data) -> None:  # type: ignore[no-untyped-def]
    made = some_plan(rows, finals)
    at = data.draw(st.integers(0, len(rows)))
    trained = data.draw(st.integers(0, made.ladder.entrants[at]))
    spent = data.draw(st.floats(0, 20))
    left = data.draw(st.floats(0, 20))
    less = made.shrunk(at, trained, spent=spent, left=left)
    assert less.ladder.rungs[-1].is_full and len(less.prices) == len(less.ladder.rungs)
    assert all(n >= 1 for n in less.ladder.entrants)
    assert less.ladder.entrants[:at] == made.ladder.entrants[:at]
    if trained:
        assert less.ladder.rungs[at].kind == made.ladder.rungs[at].kind
        assert less.ladder.entrants[at] >= trained
    pace = made.pace(at, trained, spent)
    rest = pace * (sum(less.spending[at:]) - trained * made.prices[at])
    last = len(less.prices) - 1
    least = pace * (max(1, trained if at == last else 1) - (trained if at == last else 0))
    assert rest <= max(left, least) + 1e-6
    if rest <= left and left >= pace * (sum(made.spending[at:]) - trained * made.prices[at]):
        assert less is made


@pytest.mark.parametrize("pace", [0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("budget", [3.0, 5.0])
def test_a_time_is_kept_at_any_pace(budget: float, pace: float) -> None:
    """A whole search, shrunk before every training; how long each takes varies by a tenth. On a slow machine, too."""
    for seed in range(10):
        vary = random.Random(seed)
        now, spent, at = plan(Costs({(1 / 4, 1.0): 1 / 7}, epochs=9), budget=budget), 0.0, 0
        trained = 0
        while at < len(now.prices):
            now = now.shrunk(at, trained, spent=spent, left=budget - spent)
            if trained < now.ladder.entrants[at]:
                spent += now.prices[at] * pace * vary.uniform(0.9, 1.1)
                trained += 1
            else:
                at, trained = at + 1, 0
        assert now.ladder.rungs[-1].is_full
        assert 0.8 * min(1, pace) < spent / budget < 1.15  # at pace 2 the last training alone is 2/3 of 3, and varies


def test_twice_as_many_go_on_or_as_many_as_are_paid_for() -> None:
    assert PLAN.widened(1).ladder.entrants == (64, 16, 8, 1)
    assert PLAN.widened(1, left=1 + 6.5 / 7).ladder.entrants == (64, 16, 6, 1)
    assert PLAN.widened(1, left=1.6) is PLAN
    assert PLAN.widened(1).reasons == ("8 instead of 4 go on from rung 2, since it ranks badly.",)
    everybody = Plan(Ladder(Rung(width=0.5, trials=5, keep=4), Rung()), (0.5, 1.0))
    assert everybody.widened(0).ladder.rungs[0].keep == 5
    with pytest.raises(InputError, match="nobody goes on from the last rung"):
        PLAN.widened(3)
