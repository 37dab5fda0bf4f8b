"""Budgets as people write them."""

from __future__ import annotations

import math

import pytest

from prunetune.errors import InputError
from prunetune.ladder.budget import SearchBudget, read_budget


@pytest.mark.parametrize(("given", "trainings"), [(3, 3), (2.5, 2.5), ("3", 3), (" 2.5 ", 2.5), (".5", 0.5), ("2.", 2)])
def test_full_trainings(given: object, trainings: float) -> None:
    assert read_budget(given) == SearchBudget(trainings=trainings)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("45s", 45),
        ("1.5H", 5400),
        ("1d", 86400),
        ("1d2h3m4.5s", 93784.5),
        ("0h10s", 10),
    ],
)
def test_times(given: str, seconds: float) -> None:
    assert read_budget(given) == SearchBudget(seconds=seconds)


@pytest.mark.parametrize(
    "given", ["", "h", "2 hours", "30m1h", "1h1h", "-2h", "-3", "1e3", "nan", "2x", "1h30", "3 trainings", "٣h!"]
)
def test_what_is_neither(given: str) -> None:
    with pytest.raises(InputError, match=f"^budget is {given!r}, which is no number and no time: write 3 or 2.5"):
        read_budget(given)


@pytest.mark.parametrize("given", [0, -1, math.nan, math.inf, "0", "0s", "0h0m"])
def test_nothing_is_no_budget(given: object) -> None:
    with pytest.raises(InputError, match="but it must be above 0: write 3 or 2.5"):
        read_budget(given)


@pytest.mark.parametrize("given", [True, None, [3], {"hours": 2}])
def test_other_things(given: object) -> None:
    with pytest.raises(InputError, match="budget must be one number"):
        read_budget(given)
