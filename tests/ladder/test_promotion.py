"""Who goes on: ranks worked out by hand, and properties of random results."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunetune.ladder.promotion import RungOutcome, RungResult, ranked

OUTCOMES: tuple[RungOutcome, ...] = ("complete", "pruned", "diverged", "failed")


def results(*scores: float | None) -> list[RungResult[str]]:
    return [RungResult(name, score) for name, score in zip("abcdefgh", scores, strict=False)]


def test_half_of_the_rank_below_counts() -> None:
    """Here a 1, b 2, c 3, d 4; below d 1, c 2, b 3, a 4: sums 3, 3.5, 4, 4.5."""
    here, below = results(0.9, 0.8, 0.7, 0.6), results(0.1, 0.2, 0.3, 0.4)
    assert ranked(here, below, direction="maximize") == ["a", "b", "c", "d"]
    assert ranked(here, below, direction="minimize") == ["d", "c", "b", "a"]
    # Here a 1, b 2, c 3; below c 1, b 2, a 3: sums 2.5, 3, 3.5.
    assert ranked(results(3, 2, 1), results(1, 2, 3), direction="maximize") == ["a", "b", "c"]
    # Here a 1, b 2, c 3, d 4; below b 1, c 2, d 3, a 4: sums a 3, b 2.5, c 4, d 5.5.
    assert ranked(results(4, 3, 2, 1), results(1, 4, 3, 2), direction="maximize") == ["b", "a", "c", "d"]


def test_equal_sums_go_by_the_rank_below_and_then_by_the_order() -> None:
    # Here a 1, b 2, c 3; below b 1, c 2, a 3: sums a 2.5, b 2.5, c 4; b was better below.
    assert ranked(results(3, 2, 1), results(1, 3, 2), direction="maximize") == ["b", "a", "c"]
    assert ranked(results(1, 1, 1), results(1, 1, 2), direction="maximize") == ["c", "a", "b"]
    assert ranked(results(1, 1, 1), direction="minimize") == ["a", "b", "c"]


def test_ranks_below_are_among_those_who_are_here() -> None:
    """The many that did not go on do not push a control's rank below beyond the others'."""
    dropped = [RungResult(f"dropped {i}", 0.5) for i in range(100)]
    here = [RungResult("survivor", 0.7), RungResult("control", 0.9)]
    below = [RungResult("survivor", 0.8), *dropped, RungResult("control", 0.1)]
    assert ranked(here, below, direction="maximize") == ["control", "survivor"]  # 1 + 1 and 2 + 1/2


def test_a_stopped_one_is_a_candidate_and_a_lost_one_never() -> None:
    here = [
        RungResult("complete", 0.82),
        RungResult("stopped", 0.896, "pruned"),
        RungResult("diverged", 0.99, "diverged"),
        RungResult("failed", 0.99, "failed"),
        RungResult("stopped before its first score", None, "pruned"),
        RungResult("nan", math.nan),
        RungResult("infinite", math.inf),
    ]
    assert ranked(here, direction="maximize") == ["stopped", "complete"]
    assert ranked(here, direction="maximize")[:1] == ["stopped"]
    assert ranked(here[2:], direction="maximize") == []


def test_a_new_one_counts_as_if_it_had_come_as_high_below() -> None:
    """Here new 1, a 2, b 3 of 3; below a 1, b 2 of 2. In shares: new 1/6 + 1/12, a 1/2 + 1/8, b 5/6 + 3/8."""
    here = [RungResult("b", 1.0), RungResult("new", 3.0), RungResult("a", 2.0)]
    below = [RungResult("b", 1.0), RungResult("a", 2.0)]
    assert ranked(here, below, direction="maximize") == ["new", "a", "b"]


RESULTS = st.lists(
    st.tuples(st.none() | st.integers(-3, 3).map(float) | st.just(math.nan), st.sampled_from(OUTCOMES)), max_size=12
).map(lambda rows: [RungResult(place, *row) for place, row in enumerate(rows)])


@given(RESULTS, RESULTS, st.integers(0, 12), st.sampled_from(["maximize", "minimize"]))
def test_only_candidates_go_on_each_once_and_the_best_alone_is_among_them(here, below, keep, direction) -> None:  # type: ignore[no-untyped-def]
    up = ranked(here, below, direction=direction)[:keep]
    candidates = [r for r in here if r.outcome in ("complete", "pruned") and r.score is not None and r.score == r.score]
    assert len(up) == len(set(up)) == min(keep, len(candidates))
    assert set(up) <= {r.id for r in candidates}
    sign = 1 if direction == "maximize" else -1
    alone = ranked(here, direction=direction)[:1]
    assert [sign * here[id].score for id in alone] == sorted(sign * r.score for r in candidates)[-1:]


@given(RESULTS, RESULTS, st.sampled_from(["maximize", "minimize"]))
def test_who_is_better_here_and_below_goes_first(here, below, direction) -> None:  # type: ignore[no-untyped-def]
    order = ranked(here, below, direction=direction)
    sign = 1 if direction == "maximize" else -1
    before = {r.id: sign * r.score for r in below if r.may_go_on}
    both = [id for id in order if id in before]
    for place, one in enumerate(both):
        for other in both[place + 1 :]:
            assert not (sign * here[other].score > sign * here[one].score and before[other] > before[one])


@given(RESULTS, RESULTS)
def test_mirrored_scores_in_the_other_direction_are_the_same(here, below) -> None:  # type: ignore[no-untyped-def]
    def mirrored(some: list[RungResult[int]]) -> list[RungResult[int]]:
        return [RungResult(r.id, None if r.score is None else -r.score, r.outcome) for r in some]

    assert ranked(here, below, direction="maximize") == ranked(mirrored(here), mirrored(below), direction="minimize")


def test_the_order_decides_between_equal_ones_only() -> None:
    here = results(5, 1, 4, 2, 3)
    below = results(2, 3, 1, 5, 4)
    expected = ranked(here, below, direction="maximize")
    for seed in range(20):
        shuffled = random.Random(seed).sample(here, len(here))
        assert ranked(shuffled, below, direction="maximize") == expected


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_nobody_here_nobody_goes(direction) -> None:  # type: ignore[no-untyped-def]
    assert ranked([], results(1, 2), direction=direction) == []
