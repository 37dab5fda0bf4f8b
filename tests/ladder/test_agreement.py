"""What two rungs say about each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from prunetune.ladder.agreement import agreement, axes_between, choose_controls
from prunetune.ladder.promotion import RungResult
from prunetune.ladder.rung import Rung


def test_controls_are_the_middles_of_equal_parts() -> None:
    assert choose_controls(range(64), range(16), 3) == [24, 40, 56]  # of 16 to 31, 32 to 47, 48 to 63
    assert choose_controls("abcdef", "af", 1) == ["d"]  # of b, c, d, e
    assert choose_controls("abc", "ab", 5) == ["c"]
    assert choose_controls("abc", "abc", 2) == choose_controls("abc", "a", 0) == []


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 8))
def test_controls_are_others_each_once_and_spread(n: int, up: int, count: int) -> None:
    chosen = choose_controls(range(n), range(min(up, n)), count)
    assert len(chosen) == len(set(chosen)) == min(count, n - min(up, n))
    assert not set(chosen) & set(range(up)) and chosen == sorted(chosen)
    for part, place in enumerate(chosen):  # the middle of a part is within the one that was chosen
        assert abs(place - min(up, n) + 0.5 - (part + 0.5) * (n - min(up, n)) / len(chosen)) <= 0.5


def test_axes() -> None:
    assert axes_between(Rung(width=1 / 8, epochs=1 / 9), Rung(width=1 / 4, epochs=1 / 3)) == ("width", "epochs")
    assert axes_between(Rung(width=1 / 4), Rung()) == ("width",)


def results(scores: list[float]) -> list[RungResult[int]]:
    return [RungResult(place, score) for place, score in enumerate(scores)]


def test_the_correlation_is_scipys() -> None:
    generator = np.random.default_rng(3)
    lower = generator.normal(size=19)
    upper = lower + generator.normal(size=19)
    found = agreement(results([*lower]), results([*upper]), controls={17, 18}, axes=["width"], direction="minimize")
    assert found.spearman.mean == pytest.approx(scipy.stats.spearmanr(lower, upper).statistic)
    assert found.spearman.low < found.spearman.mean < found.spearman.high
    assert (found.configurations, found.controls) == (19, 2)


UP = [1.0, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_good_bad_and_still_bad(direction) -> None:  # type: ignore[no-untyped-def]
    """Spearman of 1…8 with 2 1 4 3 6 5 8 7: 1 - 6 x 8 / (8 x 63) = .905; with 8…1: -1."""

    def decided(upper: list[float], widened: bool = False) -> tuple[str, str]:
        found = agreement(
            results(UP),
            results(upper),
            controls=[0],
            axes=["width", "epochs"],
            direction=direction,
            widened=widened,
        )
        return found.decision, found.sentence

    good, said = decided([2.0, 1, 4, 3, 6, 5, 8, 7])
    assert good == "fine" and "8 configurations, one of them a control" in said and "0.90" in said
    assert decided(UP[::-1])[0] == "widen" and "twice as many go on from the next rung" in decided(UP[::-1])[1]
    left, said = decided(UP[::-1], widened=True)
    assert left == "leave" and "less width and less epochs cannot be trusted here" in said
    assert decided(UP, widened=True)[0] == "fine"


@pytest.mark.parametrize(("squares", "decision"), [(50, "fine"), (52, "unknown"), (166, "widen")])
def test_the_border(squares: int, decision: str) -> None:
    """1 - 6 x 50 / 504 = .405; 1 - 6 x 52 / 504 = .381, which eight may have by chance; 1 - 6 x 166 / 504 = -.98."""
    orders = itertools.permutations(UP)
    upper = next(p for p in orders if sum((a - b) ** 2 for a, b in zip(UP, p, strict=True)) == squares)
    found = agreement(results(UP), results([*upper]), controls=[0], axes=["width"], direction="maximize")
    assert found.spearman.mean == pytest.approx(1 - squares / 84)
    assert found.decision == decision


def test_a_diverged_one_is_the_worst_and_a_failed_one_says_nothing() -> None:
    lower = results(UP)
    upper = [*results(UP[:7]), RungResult(7, None, "diverged")]
    found = agreement(lower, upper, controls=[0], axes=["width"], direction="maximize")
    # Ranks 1…8 with 2…8, 1: the sum of squares is 7 + 49 = 56, and 1 - 6 x 56 / 504 = 1/3.
    assert found.spearman.mean == pytest.approx(1 / 3)
    failed = agreement(lower, [*upper[:7], RungResult(7, None, "failed")], controls=[0], axes=[], direction="maximize")
    assert failed.configurations == 7 and failed.spearman.mean == pytest.approx(1)
    low = agreement(lower, upper, controls=[0], axes=["width"], direction="minimize")
    # Better is lower: 1…7 agree, and the worst below has become the worst: 8 was it already.
    assert low.spearman.mean == pytest.approx(1)


@pytest.mark.parametrize(
    ("upper", "controls"), [(UP, []), (UP, [99]), (UP[:5], [0]), ([1.0] * 8, [0])], ids=["none", "lost", "few", "same"]
)
def test_where_nothing_can_be_said(upper: list[float], controls: list[int]) -> None:
    found = agreement(
        results(UP), results(upper), controls=controls, axes=["width"], direction="maximize", widened=True
    )
    assert found.decision == "unknown" and found.spearman.mean is None
