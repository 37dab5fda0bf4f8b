"""The rivals of a comparison: each costs the share of a training that it was asked to cost."""

from __future__ import annotations

import pytest

from prunetune.comparison.rivals import RIVALS, Cheaper, at_cost
from prunetune.errors import InputError


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2, 0.4, 1.0])
@pytest.mark.parametrize("rival", ["fewer-epochs", "stopped-early", "less-data"])
def test_rivals_cost_what_they_should(rival: str, share: float) -> None:
    for epochs in (5, 12, 160):
        found = at_cost(rival, share, epochs)
        assert found.cost(epochs) == pytest.approx(share, rel=0.26)  # a schedule of 5 epochs has no 1.4 of them
        assert 1 <= found.epochs <= epochs


def test_rivals_by_hand() -> None:
    assert at_cost("fewer-epochs", 0.3, 20) == Cheaper(6)
    assert at_cost("stopped-early", 0.3, 20) == Cheaper(20, stop_after=6)
    assert at_cost("less-data", 0.3, 20) == Cheaper(20, data=0.3)
    assert at_cost("one-epoch", 0.3, 20) == Cheaper(1)
    fewer = at_cost("fewer-epochs", 0.12, 20)  # 2.4 epochs: two of them
    assert (fewer.epochs, fewer.data) == (2, 1.0)
    fewer = at_cost("fewer-epochs", 0.13, 20)  # 2.6: three on less data
    assert (fewer.epochs, fewer.data) == (3, pytest.approx(2.6 / 3))


def test_an_unknown_rival_and_an_impossible_cost_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown rival 'less-dat' \(did you mean 'less-data'\?\)"):
        at_cost("less-dat", 0.5, 10)
    for name in RIVALS:
        with pytest.raises(InputError, match="cost is 1.5, but it must be above 0 and at most 1"):
            at_cost(name, 1.5, 10)
