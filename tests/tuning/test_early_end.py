"""A rung that ends before it has all that was planned: a score that is good enough, and no better one for a while."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunetune.events import Event, Notice
from prunetune.ladder.rung import Ladder, Rung
from tiny_ladder import MAXIMIZE, Trainings, climb, make_quick

LADDER = Ladder(Rung(1 / 8, 1 / 3, trials=8, keep=3), Rung(1 / 4, keep=1), Rung())
FIRST = [{"lr": rate} for rate in (0.1, 0.3, 0.2, 0.25, 0.05, 0.15, 0.12, 0.4)]
"""What is proposed, in this order: the score is the rate plus the width, of which there are 1, 2 and 8 in ``net``."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def by_width(train: Trainings) -> dict[int, list[float]]:
    """The learning rates in the order in which they were trained."""
    found: dict[int, list[float]] = {}
    for width, _, rate in train.made:
        found.setdefault(width, []).append(round(rate, 6))
    return found


def rising(width: int, rate: float) -> float:
    return rate


def ended(run_dir: Path, train: Trainings, **search: Any) -> list[str]:
    """Climb, and the sentences that say that a rung ends early."""
    heard: list[Event] = []
    climb(run_dir, train, ladder=LADDER, first=FIRST, search=replace(MAXIMIZE, **search), observer=heard.append)
    return [event.message for event in heard if isinstance(event, Notice) and " ends after " in event.message]


def test_a_score_that_is_good_enough_ends_every_rung(tmp_path: Path) -> None:
    train = Trainings(rising)
    assert ended(tmp_path, train, target=0.29) == [
        "rung 1 ends after 2: a score of 0.3 is good enough",
        "rung 2 ends after 1: a score of 0.3 is good enough",
        "rung 3 ends after 1: a score of 0.3 is good enough",
    ]
    narrow, middle, full = by_width(train).values()
    assert (narrow, middle, full) == ([0.1, 0.3], [0.3], [0.3])


def test_a_loss_is_good_enough_below_the_target(tmp_path: Path) -> None:
    train = Trainings(rising)
    said = ended(tmp_path, train, target=0.25, direction="minimize")
    assert said[0] == "rung 1 ends after 1: a score of 0.1 is good enough"


def test_patience_ends_the_first_rung_only(tmp_path: Path) -> None:
    train = Trainings(rising)
    assert ended(tmp_path, train, patience=3) == ["rung 1 ends after 5: the last 3 were no better than 0.3"]
    narrow, middle, full = by_width(train).values()
    assert narrow == [0.1, 0.3, 0.2, 0.25, 0.05]
    assert middle == [0.3, 0.25, 0.2]
    assert full == [0.3]


def test_without_either_all_are_trained(tmp_path: Path) -> None:
    train = Trainings(rising)
    assert ended(tmp_path, train) == []
    assert len(by_width(train)[min(by_width(train))]) == 8


def test_a_run_that_goes_on_without_the_target_trains_the_others(tmp_path: Path) -> None:
    ended(tmp_path, Trainings(rising), target=0.29)
    (tmp_path / "result.json").write_text(
        (tmp_path / "result.json").read_text().replace('"status": "finished"', '"status": "searching"')
    )
    train = Trainings(rising)
    ended(tmp_path, train)
    narrow = by_width(train)[min(by_width(train))]
    assert narrow == [round(point["lr"], 6) for point in FIRST[2:]]


def test_a_diverged_training_is_never_good_enough(tmp_path: Path) -> None:
    train = Trainings(lambda width, rate: float("nan") if rate > 0.29 else rate)
    assert ended(tmp_path, train, target=0.29) == []
