"""Rungs and ladders: what goes together, what is refused, records."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder, Rung, fraction

PROTOTYPE = Ladder(
    Rung(width=1 / 4, epochs=1 / 9, trials=64, keep=16),
    Rung(width=1 / 4, epochs=1 / 3, keep=4),
    Rung(width=1 / 4, keep=1),
    Rung(),
)


def test_entrants_are_those_who_go_on_with_the_controls_and_the_new_ones() -> None:
    assert PROTOTYPE.entrants == (64, 16, 4, 1)
    ladder = Ladder(Rung(width=None, trials=20, keep=5, controls=2), Rung(width=0.5, trials=3, keep=1), Rung(trials=4))
    assert ladder.entrants == (20, 10, 5)
    assert Ladder(Rung(trials=7)).entrants == (7,)


@given(st.floats(0.001, 1), st.integers(1, 400))
def test_epochs_are_whole_at_least_one_and_as_near_as_they_can_be(share: float, epochs: int) -> None:
    found = Rung(epochs=share).of_epochs(epochs)
    assert 1 <= found <= epochs
    assert abs(found - share * epochs) <= 0.5 or found == 1


@pytest.mark.parametrize(
    ("share", "epochs", "expected"),
    [
        *((1 / 9, 9, 1), (1 / 9, 5, 1), (1 / 3, 5, 2), (0.5, 9, 5)),
        *((0.2, 10, 2), (1 / 3, 9, 3), (0.01, 9, 1), (1, 7, 7)),
    ],
)
def test_epochs_by_hand(share: float, epochs: int, expected: int) -> None:
    assert Rung(epochs=share).of_epochs(epochs) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 0}, "rung.width is 0, but it must be above 0 and at most 1"),
        ({"epochs": 1.5}, "rung.epochs is 1.5, but it must be above 0 and at most 1"),
        ({"data": float("nan")}, "rung.data is nan, but it must be above 0 and at most 1"),
        ({"resolution": True}, "rung.resolution must be one number, not True"),
        ({"trials": -1}, "rung.trials is -1, but it must be a whole number of at least 0"),
        ({"keep": 0}, "rung.keep is 0, but it must be a whole number of at least 1"),
        ({"keep": 1.0}, "rung.keep is 1.0, but it must be a whole number of at least 1"),
        ({"controls": -2}, "rung.controls is -2, but it must be a whole number of at least 0"),
    ],
)
def test_a_rung_that_cannot_be(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        Rung(**given)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ((), "must be a full training of the full network, but there is none: end with Rung()"),
        ((Rung(width=0.5, trials=3),), "but it is 1/2 of the width: end with Rung()"),
        ((Rung(width=None, trials=3),), "but it is the proxy: end with Rung()"),
        ((Rung(epochs=0.5, keep=1), Rung()), "rung 1 of the ladder has no trials"),
        ((Rung(),), "rung 1 of the ladder has no trials"),
        ((Rung(width=0.5, trials=4), Rung()), "rung 1 of the ladder does not say how many go on"),
        ((Rung(width=0.5, trials=4, keep=5), Rung()), "rung 1 of the ladder has keep=5, but only 4 are on it"),
        ((Rung(width=0.5, trials=4, keep=3, controls=2), Rung()), "has keep=3 and 2 controls, but only 4 are on it"),
        ((Rung(width=0.5, trials=4, keep=3), Rung(epochs=0.5, keep=4), Rung()), "rung 2 of the ladder has keep=4"),
        ((Rung(trials=4, keep=2), Rung()), "rung 1 of the ladder is a full training of the full network already"),
        ((Rung(trials=4, keep=2),), "nobody goes on from the last rung of a ladder"),
        (({"width": 1},), "a ladder is made of rungs, and {'width': 1} is none"),
    ],
)
def test_rungs_that_do_not_go_together(rungs: tuple[Rung, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        Ladder(*rungs)
    assert message in str(error.value)


def test_a_record_is_plain_and_comes_back() -> None:
    ladder = Ladder(Rung(width=None, resolution=0.5, data=0.2, trials=9, keep=3, controls=1), Rung(trials=2))
    for one in (ladder, PROTOTYPE):
        assert Ladder.from_record(json.loads(json.dumps(one.to_record()))) == one


def test_a_configuration_may_leave_out_what_has_a_default() -> None:
    assert Ladder.from_record([{"width": 0.5, "trials": 8, "keep": 1}, {}]) == Ladder(
        Rung(width=0.5, trials=8, keep=1), Rung()
    )


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"rung": []}, "a ladder is a list of rungs, not {'rung': []}"),
        ("ladder", "a ladder is a list of rungs, not 'ladder'"),
        ([3], "rung 1 of the ladder must be a table of width, epochs, trials, keep, …, not 3"),
        ([{"trials": 3, "keep": 1}, {"widht": 1}], "rung 2 of the ladder: unknown key 'widht' (did you mean 'width'?)"),
        ([{"width": "1/4"}], "rung 1 of the ladder: rung.width must be one number, not '1/4'"),
        ([{"trials": 2.5}], "rung 1 of the ladder: rung.trials is 2.5"),
    ],
)
def test_a_record_that_is_none(record: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        Ladder.from_record(record)
    assert message in str(error.value)


def test_shares_as_people_say_them() -> None:
    assert [fraction(x) for x in (1.0, 0.5, 1 / 3, 1e-5, 0.0625)] == ["1", "1/2", "1/3", "1e-05", "1/16"]
    assert Rung(width=None, data=0.2).describe() == "the proxy, 1/5 of the data"
    assert Rung(resolution=0.5, epochs=1 / 3).describe() == "1/3 of the epochs, 1/2 of the resolution"
