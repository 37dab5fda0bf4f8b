"""What a run is held against: about how many full trainings the customary search takes, by hand."""

from __future__ import annotations

import pytest

from prunetune.tuning.customary import customary_trainings


def test_trainings_of_one_epoch_are_never_stopped() -> None:
    """All 50 to the end, and the winner once more."""
    assert customary_trainings(1) == 50 + 1


def test_a_training_of_two_epochs_may_be_stopped_after_the_first() -> None:
    """The n-th trial goes on if it is among the best third of the n so far, or the best: a chance, added up over n."""
    go_on = sum(max(1, n // 3) / n for n in range(1, 51))
    assert customary_trainings(2) == pytest.approx((50 + go_on) / 2 + 1)


def test_longer_trainings_make_it_cheaper_in_trainings() -> None:
    """With 9 epochs a trial in a bracket with rungs 1 and 3 is stopped after a ninth; nobody is stopped before that."""
    assert 50 / 9 + 1 < customary_trainings(9) < customary_trainings(2)
