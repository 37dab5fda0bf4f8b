"""Searches that climb a ladder: what every rung trains, who goes up, and what comes of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna import TrialPruned
from safetensors.torch import load_file
from torch import nn

from prunetune.backends import Categorical
from prunetune.errors import InputError, SearchError
from prunetune.events import Event, Notice, PhaseStarted
from prunetune.ladder.promotion import RungResult
from prunetune.ladder.rung import Ladder, Rung
from prunetune.tuning.climbers import Climber, in_order
from prunetune.tuning.tuner import Pruning, Search
from tiny_ladder import MAXIMIZE, SMALL, Trainings, climb, make_quick, points
from tiny_tune import never, read_record, tiny_tune

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def test_every_rung_trains_what_it_says_and_the_winner_is_trained_once(tmp_path: Path) -> None:
    """Of 0.1 … 0.6 the best two go up, and the third of the four others: 0.4 > 0.3 > 0.2 > 0.1."""
    ladder = Ladder(Rung(1 / 8, 1 / 3, data=0.5, trials=6, keep=2, controls=1), Rung(1 / 4, keep=1), Rung())
    trained, events = Trainings(), list[Event]()
    rates = (0.3, 0.1, 0.6, 0.2, 0.5, 0.4)
    result = climb(tmp_path, trained, ladder=ladder, observer=events.append, **points(*rates))
    assert trained.made == [
        *((2, 1, rate) for rate in rates),
        *((4, 3, rate) for rate in (0.6, 0.5, 0.2)),
        (16, 3, 0.6),
    ]
    assert trained.data == [0.5] * 6 + [1.0] * 4
    assert len(set(trained.seeds)) == 10
    assert (result.params["lr"], result.score) == (0.6, 16.6)
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(0.6)
    (between,) = result.record["climbs"]
    assert [(each["trial"], each["control"]) for each in between["trained"]] == [(2, False), (4, False), (3, True)]
    assert [each["trial"] for each in result.record["confirmation"]] == [2]
    assert [each.phase for each in events if isinstance(each, PhaseStarted)][-2:] == ["train", "report"]
    assert Notice("rung 2 of 3: 1/4 of the width") in events
    assert climb(tmp_path, never, ladder=ladder, **points(*rates)).already_finished


def test_half_of_the_rank_below_decides_who_goes_up(tmp_path: Path) -> None:
    """Below 0.3 is first, 0.1 third; above it is the other way round, with 0.2 last.

    Of three the ranks as shares are 1/6, 3/6, 5/6: 0.1 has 1/6 + 5/12, 0.3 has 3/6 + 1/12. It is the same, and 0.3 was
    the better one below.
    """
    above = {0.1: 3.0, 0.3: 2.0, 0.2: 1.0}
    trained = Trainings(lambda wide, rate: above[rate] if wide == 4 else rate)
    ladder = Ladder(Rung(1 / 8, trials=4, keep=3), Rung(1 / 4, keep=1), Rung())
    assert climb(tmp_path, trained, ladder=ladder, **points(0.05, 0.1, 0.2, 0.3)).params["lr"] == 0.3
    assert trained.rates(4) == [0.3, 0.2, 0.1]
    assert trained.rates(16) == [0.3]


def test_who_diverged_or_failed_stays_and_who_was_stopped_goes_up_by_its_score(tmp_path: Path) -> None:
    def score(wide: int, rate: float) -> float:
        if (wide, rate) in {(2, 0.9), (4, 0.5)}:
            return math.nan
        if rate == 0.8:
            raise ValueError("out of memory")
        if (wide, rate) == (2, 0.7):
            raise TrialPruned(rate)
        return rate

    trained = Trainings(score)
    ladder = Ladder(Rung(1 / 8, trials=6, keep=3), Rung(1 / 4, keep=1), Rung())
    result = climb(tmp_path, trained, ladder=ladder, **points(0.9, 0.8, 0.7, 0.6, 0.5, 0.4))
    assert trained.rates(4) == [0.7, 0.6, 0.5]
    assert trained.rates(16) == [0.7]
    assert [each["outcome"] for each in result.record["climbs"][0]["trained"]] == ["complete", "complete", "diverged"]


def test_in_a_search_of_two_rungs_who_was_stopped_is_confirmed_by_its_score_too(tmp_path: Path) -> None:
    """A Dice of .896 was stopped, one of .820 came to its end."""

    def score(wide: int, rate: float) -> float:
        if (wide, rate) == (8, 0.896):
            raise TrialPruned(rate)
        return rate

    trained = Trainings(score)
    search = Search(direction="maximize", n_trials=3, confirm=2, optimizer="random", trial_pruner="none")
    result = tiny_tune(tmp_path, trained, search=search, **points(0.820, 0.896, 0.5))
    assert trained.rates(16) == [0.896, 0.820]
    assert result.params["lr"] == 0.896
    known = [(each["trial"], each["proxy_score"], each["base_score"]) for each in result.record["confirmation"]]
    assert known == [(1, 0.896, 0.896), (0, 0.820, 0.820)]


def test_less_is_better(tmp_path: Path) -> None:
    trained = Trainings()
    search = Search(direction="minimize", optimizer="random", trial_pruner="none")
    assert climb(tmp_path, trained, search=search, **points(0.4, 0.1, 0.3, 0.2)).params["lr"] == 0.1
    assert (trained.rates(4), trained.rates(16)) == ([0.1, 0.2], [0.1])


def test_the_full_ladder_keeps_the_weights_of_its_search(tmp_path: Path) -> None:
    trained = Trainings(stop_before=3)
    asked: dict[str, Any] = {"ladder": "full", "search": Search(**{**vars(MAXIMIZE), "n_trials": 3})}
    with pytest.raises(KeyboardInterrupt):
        climb(tmp_path, trained, **asked)
    trained.stop_before = None
    result = climb(tmp_path, trained, **asked)
    assert [(wide, epochs) for wide, epochs, _ in trained.made] == [(16, 3)] * 3
    assert len(set(trained.made)) == 3
    assert result.params["lr"] == max(trained.rates(16))
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(result.params["lr"])
    assert not list(tmp_path.glob("weights-trial-*"))
    assert result.record["confirmation"] == []
    assert climb(tmp_path, never, **asked).already_finished


def test_a_rung_by_hand_may_have_the_proxy_of_the_pruning(tmp_path: Path) -> None:
    trained = Trainings()
    ladder = Ladder(Rung(None, 2 / 3, trials=3, keep=2), Rung())
    climb(tmp_path, trained, ladder=ladder, pruning=Pruning(scorer="magnitude", ratio=0.5), **points(0.1, 0.2, 0.3))
    assert trained.made == [*((8, 2, r) for r in (0.1, 0.2, 0.3)), (16, 3, 0.3), (16, 3, 0.2)]


def test_a_rung_may_do_again_what_the_one_below_did(tmp_path: Path) -> None:
    """With other seeds, so that what was luck shows."""
    trained = Trainings()
    again = Rung(1 / 4, keep=1)
    climb(tmp_path, trained, ladder=Ladder(Rung(1 / 4, trials=3, keep=2), Rung(1 / 4, keep=2), again, Rung()))
    assert [wide for wide, _, _ in trained.made] == [4] * 7 + [16]
    assert len(set(trained.seeds)) == 8


def test_a_space_with_fewer_points_than_trials(tmp_path: Path) -> None:
    trained = Trainings()
    space = {"lr": Categorical([0.1, 0.2, 0.3]), "steps": Categorical([1])}
    assert climb(tmp_path, trained, space=space, ladder=SMALL).params["lr"] == 0.3
    assert (sorted(trained.rates(2)), trained.rates(4)) == ([0.1, 0.2, 0.3], [0.3, 0.2])


def test_of_the_same_hyperparameters_the_best_goes_up() -> None:
    """As where an optimizer comes back to a corner of the space."""
    scores = {0: (0.1, 1.0), 1: (0.5, 2.0), 2: (0.1, 3.0)}
    there = [Climber(n, {"lr": rate}, RungResult(n, score)) for n, (rate, score) in scores.items()]
    assert [each.number for each in in_order(there, (), "maximize")] == [2, 1]
    assert [each.number for each in in_order(there, (), "minimize")] == [0, 1]


def test_where_no_width_pays_only_epochs_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every width takes as long as the full network. A third of three epochs is one."""
    make_quick(monkeypatch, dict.fromkeys(("1.0", "0.5", "0.25", "0.125"), 1.0))
    trained = Trainings()
    search = Search(**{**vars(MAXIMIZE), "n_trials": 4})
    climb(tmp_path, trained, search=search, budget=3)
    assert {wide for wide, _, _ in trained.made} == {16}
    assert trained.made[-1] == (16, 3, max(rate for _, _, rate in trained.made))
    assert {epochs for _, epochs, _ in trained.made[:-1]} == {1}
    reasons = read_record(tmp_path)["ladder"]["reasons"]
    assert sum("which saves too little: a step takes 1 of the full network's" in each for each in reasons) == 3


class Alone(nn.Module):
    """A network that no channel can be cut from: those of its only layer are its input and its output."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        return self.only(x)


def test_where_nothing_can_be_cut_there_is_no_ladder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Alone has no channels that can be removed: output: it is the model's output"):
        climb(tmp_path, never, model_fn=Alone, budget=3)


def test_one_epoch_makes_a_ladder_of_widths(tmp_path: Path) -> None:
    trained = Trainings()
    climb(tmp_path, trained, epochs=1, budget=1.5, search=Search(**{**vars(MAXIMIZE), "n_trials": 4}))
    assert {epochs for _, epochs, _ in trained.made} == {1}
    assert [wide for wide, _, _ in trained.made].count(16) == 1


def test_a_rung_on_which_all_diverge_is_told_and_tried_again_by_the_next_start(tmp_path: Path) -> None:
    bad = Trainings(lambda wide, rate: math.nan if wide == 4 else rate)
    sentence = "no training on the rung with 1/4 of the width came to a score; trial 1 diverged; trial 0 diverged"
    with pytest.raises(SearchError, match=sentence):
        climb(tmp_path, bad, **points(0.3, 0.4, 0.2, 0.1))
    good = Trainings()
    assert climb(tmp_path, good, **points(0.3, 0.4, 0.2, 0.1)).params["lr"] == 0.4
    assert good.made == [(4, 3, 0.4), (4, 3, 0.3), (16, 3, 0.4)]


def test_a_rung_that_ranks_badly_lets_more_go_on_once(tmp_path: Path) -> None:
    """Six are on both rungs, in opposite order: a correlation of -1. Two instead of one are trained in full."""
    ladder = Ladder(Rung(1 / 8, trials=7, keep=5, controls=1), Rung(1 / 4, keep=1), Rung())
    asked: dict[str, Any] = {"ladder": ladder, **points(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}
    trained = Trainings(lambda wide, rate: -rate if wide == 4 else rate, stop_before=15)
    with pytest.raises(KeyboardInterrupt):
        climb(tmp_path, trained, **asked)
    trained.stop_before, events = None, list[Event]()
    record = climb(tmp_path, trained, observer=events.append, **asked).record
    assert len(trained.rates(16)) == 2
    assert [rung["entrants"] for rung in record["ladder"]["rungs"]] == [7, 6, 2]
    (between,) = record["climbs"]
    assert (between["agreement"]["spearman"], between["agreement"]["decision"]) == (-1.0, "widen")
    assert between["agreement"]["configurations"] == 6
    assert between["agreement"]["sentence"].startswith(
        "Rungs 1 and 2: The rung ranks 6 configurations, one of them a control"
    )
    assert not [each for each in events if isinstance(each, Notice) and "Spearman" in each.message]


@pytest.mark.parametrize(
    ("below", "above", "decision", "best"),
    [
        ((0.8, 0.2, 0.9, 0.3, 0.4, 0.5), (0.9, 0.8, 0.2, 0.3, 0.4, 0.5), "fine", 0.8),
        ((0.8, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9), (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2), "widen", 0.9),
    ],
)
def test_the_ranks_of_a_rung_that_ranks_at_random_count_no_more(
    below: tuple[float, ...], above: tuple[float, ...], decision: str, best: float, tmp_path: Path
) -> None:
    """On the second rung .9 is first and .8 second. On the first .8 was first and .9 third, or last.

    With both ranks .8 goes up: 2 + 1/2 against 1 + 3/2, of equal sums the better below, or against 1 + 8/2.
    """
    place = {4: above, 2: below}

    def score(wide: int, rate: float) -> float:
        return -float(place.get(wide, above).index(rate))

    many = len(below)
    ladder = Ladder(Rung(1 / 8, trials=many, keep=many - 1, controls=1), Rung(1 / 4, keep=1), Rung())
    trained = Trainings(score)
    record = climb(tmp_path, trained, ladder=ladder, **points(*below)).record
    assert record["climbs"][0]["agreement"]["decision"] == decision
    assert trained.rates(16)[0] == best


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"ladder": "dafault"}, "unknown ladder 'dafault'.*did you mean 'default'"),
        ({"ladder": 3}, "ladder is 3, but it must be a name"),
        ({"ladder": SMALL, "budget": 3}, "a budget is given, but the rungs of the ladder say how many are trained"),
        ({"ladder": SMALL, "search": Search(direction="maximize", n_trials=9)}, "search.n_trials is given, but the r"),
        ({"ladder": SMALL, "search": Search(direction="maximize", confirm=2)}, "search.confirm is given, but the rung"),
        (
            {"ladder": "default", "search": Search(direction="maximize", confirm=2)},
            "search.confirm is given, but the ladder 'default' says how many go up to the end; drop it",
        ),
        (
            {"ladder": "default", "budget": 3, "pruning": Pruning(flops=0.2)},
            "pruning.flops is given, but the planner chooses widths; drop it, or take ladder='paper'",
        ),
        ({"ladder": "full", "pruning": Pruning(flops=0.2)}, "pruning.flops is given, but the planner chooses widths"),
        (
            {"ladder": SMALL, "pruning": Pruning(flops=0.2)},
            "pruning.flops is given, but the rungs of the ladder say that; drop it, or take ladder='paper'",
        ),
        ({"budget": "soon"}, "budget is 'soon', which is no number and no time: write 3 or 2.5"),
        ({"budget": 0}, "budget is 0, but it must be above 0"),
        ({"budget": 0.9}, "budget is 0.9 full trainings, but the least is 1.0"),
        (
            {"ladder": "paper", "budget": 1.2},
            "budget is 1.2 full trainings, but the least for this ladder is 1.25",
        ),
        (
            {"ladder": Ladder(Rung(1 / 4, trials=4, keep=2), Rung(trials=2))},
            "rung 2 of the ladder has trials, but hyperparameters are proposed on the first rung only; leave them out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        climb(tmp_path, never, **{"ladder": None, **asked})
    assert "\n" not in str(caught.value)
