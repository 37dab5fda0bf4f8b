"""Sentences on a record: whether a run paid, by numbers that are added up here."""

from __future__ import annotations

from typing import Any

import pytest

from prunetune.record.sentences import did_not_pay, spent

TIME = {"prune": 1.0, "measure": 2.0, "search": 5.0, "climb": 1.0, "confirm": 3.0, "total": 13.0}


def record(estimate: float | None, *, customary: float | None = 24.0, ratio: float | None = None) -> dict[str, Any]:
    time = {**TIME, "search_on_base_estimate": estimate}
    return {"pruning": {"ratio": ratio}, "time": time, "ladder": {"customary": customary}}


def test_all_rungs_are_spent_and_what_is_not_finding_hyperparameters_is_not() -> None:
    assert spent(TIME) == 1 + 2 + 5 + 1 + 3
    assert spent({**TIME, "climb": None, "confirm": None}) == 1 + 2 + 5  # it has not come there


def test_what_did_not_pay_is_said_with_what_it_took() -> None:
    """12 seconds, where the search on the full network would have taken 10."""
    assert did_not_pay(record(10.0)) == (
        "It did not pay here: from pruning to the winner it took 1.2 times as long as the customary search would have "
        "taken (an estimate)."
    )
    assert "as the search on the full network would have taken" in did_not_pay(record(10.0, customary=None))


@pytest.mark.parametrize("known", [record(12.5), record(None), record(10.0, ratio=1)])
def test_what_paid_what_nobody_knows_and_a_search_on_the_full_network_say_nothing(known: dict[str, Any]) -> None:
    assert did_not_pay(known) == ""
