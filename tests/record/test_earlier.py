"""Records of version 0.1, which knew no ladders: read as two rungs, and gone on with. Numbers by hand."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna import TrialPruned
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from safetensors.torch import load_file
from torch import nn

from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError
from prunetune.ladder.plan import Plan
from prunetune.ladder.rung import Ladder, Rung
from prunetune.record.earlier import GONE, with_ladder
from prunetune.record.stored import read_record
from prunetune.tuning.asked import resumed
from prunetune.tuning.retraining import retrain
from prunetune.tuning.settings import Pruning, Search, Settings
from prunetune.tuning.tuner import TuneResult
from tiny_ladder import Trainings
from tiny_tune import HALF, SMALL, SPACE, make_quick, net, never, tiny_tune, width
from tiny_tune import read_record as written

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def training(trial: int | None = None, score: float | None = 0.9, outcome: str = "complete") -> dict[str, Any]:
    """One on the full network."""
    ended = {"params": {"lr": 0.1}, "base_score": score, "outcome": outcome, "seconds": 9.0, "epochs": 9, "seed": 1}
    return ended if trial is None else {"trial": trial, "proxy_score": 0.5, **ended}


def refined(*scores: float) -> dict[str, Any]:
    trials = [{"refine_trial": place, **training(score=score)} for place, score in enumerate(scores, 1)]
    return {"space": {}, "told": {"base": 2, "proxy": 7}, "trials": trials}


def earlier(*, fidelity: float = 1.0, **options: Any) -> dict[str, Any]:
    """A record as 0.1 wrote it, of 9 epochs: 20 trials at a fifth of the step, trial 7 and 12 confirmed."""
    shares = {"resolution": 1.0, "epochs": fidelity, "data": 1.0}
    network = {"parameters": 100, "flops": 100}
    return {
        "format": 1,
        "status": "finished",
        "seed": 0,
        "epochs": 9,
        "n_trials": 20,
        "confirm": 2,
        "race": True,
        "refine": 0,
        "rungs": "truncated",
        "optimizer": "optuna:cmaes",
        "trial_pruner": "asha",
        "direction": "maximize",
        "space": {"lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True}},
        "fidelity": shares,
        "pruning": {"plan_sha256": "0" * 64},
        "cost": {
            "base": {**network, "step_seconds": 0.5},
            "proxy": {**network, "step_seconds": 0.1},
            "trial": {"fidelity": shares, "predicted": {"step": 0.2, "total": 0.2 * fidelity}, "measured": None},
        },
        "search": {"trials": {"complete": 20}},
        "confirmation": [training(7), training(12, 0.8)],
        "winner": {"trial": 7, "params": {"lr": 0.1}, "score": 0.9},
        "time": {"search": 60.0, "confirm": 18.0, "refine": 0.0, "search_on_base_estimate": 200.0},
        "test": {},
        "raced": {"stopped": 0},
        "trust": {"missed": 0.2},
        **options,
    }


def test_it_is_many_on_the_proxy_and_the_best_in_full() -> None:
    record = with_ladder(earlier())
    ladder = record["ladder"]
    assert [rung["entrants"] for rung in ladder["rungs"]] == [20, 2]
    assert [rung["price"] for rung in ladder["rungs"]] == [0.2, 1.0]
    assert [rung["study"] for rung in ladder["rungs"]] == ["search", "confirm"]
    assert ladder["plan"]["total"] == pytest.approx(20 * 0.2 + 2)
    plan = Plan.from_record(ladder["plan"])
    assert plan.ladder == Ladder(Rung(None, trials=20, keep=2), Rung())
    assert plan.total == pytest.approx(20 * 0.2 + 2)
    assert ladder["asked"] == {"ladder": "paper", "n_trials": 20, "confirm": 2, "trainings": None, "seconds": None}
    assert (record["confirm"], record["winner"], record["confirmation"]) == (
        2,
        earlier()["winner"],
        earlier()["confirmation"],
    )
    assert not set(GONE) & set(record)


def test_what_was_refined_follows_what_was_confirmed_and_is_counted_on_from_the_trials() -> None:
    record = with_ladder(earlier(refine=2, refinement=refined(0.85, 0.95), winner=_refined_winner(2, 0.95)))
    assert [each["trial"] for each in record["confirmation"]] == [7, 12, 20, 21]
    assert [each["base_score"] for each in record["confirmation"]] == [0.9, 0.8, 0.85, 0.95]
    assert [each["proxy_score"] for each in record["confirmation"]] == [0.5, 0.5, None, None]
    assert (record["winner"]["trial"], record["winner"]["score"]) == (21, 0.95)
    assert (record["confirm"], record["ladder"]["rungs"][1]["entrants"]) == (4, 4)
    assert record["ladder"]["asked"]["confirm"] == 2


def _refined_winner(number: int, score: float) -> dict[str, Any]:
    return {"trial": None, "refine_trial": number, "params": {"lr": 0.1}, "score": score}


def test_numbers_of_refined_trials_are_free_where_trials_were_interrupted() -> None:
    """A confirmed trial has number 23 of 20, since some were interrupted and came again."""
    record = with_ladder(
        earlier(confirmation=[training(23)], refinement=refined(0.95), winner=_refined_winner(1, 0.95))
    )
    assert [each["trial"] for each in record["confirmation"]] == [23, 24]
    assert record["winner"]["trial"] == 24


def test_a_confirmed_winner_stays_where_refining_found_nothing_better() -> None:
    record = with_ladder(earlier(refinement=refined(0.1)))
    assert record["winner"] == earlier()["winner"]


def test_the_time_of_refining_is_that_of_the_last_rung() -> None:
    record = with_ladder(earlier(time={"search": 60.0, "confirm": 18.0, "refine": 7.0, "total": 90.0}))
    assert record["time"] == {"search": 60.0, "confirm": 25.0, "total": 90.0}


@pytest.mark.parametrize(("confirmed", "entrants"), [(0, 3), (2, 3), (6, 6)])
def test_as_many_as_it_took_are_three_or_as_many_as_there_are(confirmed: int, entrants: int) -> None:
    record = with_ladder(earlier(confirm="auto", confirmation=[training(n) for n in range(confirmed)]))
    assert record["ladder"]["asked"]["confirm"] == 3
    assert (record["confirm"], record["ladder"]["rungs"][1]["entrants"]) == (entrants, entrants)


def test_without_confirmation_the_winner_was_trained_all_the_same() -> None:
    record = with_ladder(earlier(confirm=0, confirmation=[training(7)]))
    assert (record["ladder"]["asked"]["confirm"], record["confirm"]) == (0, 1)


def test_a_trial_of_a_third_of_the_epochs_is_a_rung_of_a_third() -> None:
    record = with_ladder(earlier(fidelity=1 / 3))
    plan = Plan.from_record(record["ladder"]["plan"])
    assert plan.ladder == Ladder(Rung(None, epochs=1 / 3, trials=20, keep=2), Rung())
    assert plan.prices == (pytest.approx(0.2 / 3), 1.0)
    assert record["ladder"]["rungs"][0]["network"] == "the proxy, 0.333 of the epochs"


def test_a_record_from_before_there_were_fidelities_has_the_price_of_its_step() -> None:
    """0.1 s over 0.5 s."""
    cost = {name: each for name, each in earlier()["cost"].items() if name != "trial"}
    assert with_ladder(earlier(cost=cost))["ladder"]["plan"]["prices"] == [pytest.approx(0.2), 1.0]


def test_one_that_was_stopped_in_the_search_has_the_ladder_that_it_was_to_climb() -> None:
    record = with_ladder(earlier(status="searching", winner=None, confirmation=[], time={"search": 5.0}))
    assert (record["winner"], record["confirmation"], record["confirm"]) == (None, [], 2)
    assert [rung["entrants"] for rung in record["ladder"]["rungs"]] == [20, 2]
    assert record["time"] == {"search": 5.0, "confirm": 0.0}


def test_a_record_with_a_ladder_and_one_that_has_not_begun_are_as_they_are() -> None:
    for record in (with_ladder(earlier()), {"format": 1, "status": "searching"}):
        assert with_ladder(record) is record


@pytest.mark.parametrize(
    "options",
    [{"cost": None}, {"refinement": 3}, {"time": None}, {"confirmation": [{"params": {}}]}, {"n_trials": "é"}],
)
def test_a_damaged_one_is_one_sentence(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(earlier(**options)))
    with pytest.raises(InputError, match=r"result.json is damaged \(.*\); choose another run folder"):
        read_record(tmp_path / "result.json")


# What may be asked of it now


def settings(ladder: Ladder | str = "default", **search: Any) -> Settings:
    return Settings(SPACE, 9, Pruning(), Search(direction="maximize", **search), 0, ladder)


def test_fifty_trials_and_three_confirmations_were_what_nobody_had_to_say() -> None:
    record = with_ladder(earlier(n_trials=50, confirm=3))
    found = resumed(settings(), record, Path("run"))
    assert found.asked() == record["ladder"]["asked"]
    assert found.climbed == Ladder(Rung(None, trials=50, keep=3), Rung())


def test_more_may_be_asked_and_nothing_else() -> None:
    record = with_ladder(earlier())
    assert resumed(settings(n_trials=30, confirm=4), record, Path("run")).search.confirm == 4
    for asked, sentence in (
        (settings(n_trials=19, confirm=2), "started with search.n_trials 20, now it is 19"),
        (settings(n_trials=20, confirm=1), "started with search.confirm 2, now it is 1"),
        (settings("full", n_trials=20, confirm=2), "started with the ladder 'paper', now it is 'full'"),
    ):
        with pytest.raises(InputError, match=sentence):
            resumed(asked, record, Path("run"))


# Going on with a run


def make_earlier(folder: Path, *, fidelity: float = 1.0, **options: Any) -> None:
    """Make the run in ``folder`` one of 0.1: its record, and its study of full trainings, which raced."""
    record = written(folder)
    shares = {"resolution": 1.0, "epochs": fidelity, "data": 1.0}
    for name in ("ladder", "climbs"):
        record.pop(name, None)
    record["cost"]["trial"] = {"fidelity": shares, "predicted": {"step": 1.0, "total": fidelity}, "measured": None}
    record.update({"race": True, "refine": 0, "rungs": "truncated", "fidelity": shares, **options})
    record["time"]["refine"] = 0.0
    (folder / "result.json").write_text(json.dumps(record))
    (folder / "plan-proxy.json").unlink()
    now = JournalStorage(JournalFileBackend(f"{folder}/study.log"))
    before = RDBStorage(f"sqlite:///{folder}/study.db")
    for name in optuna.get_all_study_names(now):
        optuna.copy_study(from_study_name=name, from_storage=now, to_storage=before)
    before.remove_session()
    before.engine.dispose()
    (folder / "study.log").unlink()
    with sqlite3.connect(folder / "study.db") as db:
        rows = db.execute(
            "SELECT study_user_attribute_id, value_json FROM study_user_attributes JOIN studies USING (study_id) "
            "WHERE study_name = 'confirm' AND key = 'prunetune'"
        ).fetchall()
        for number, text in rows:
            raced = json.dumps({**json.loads(text), "trial_pruner": "race"})
            db.execute(
                "UPDATE study_user_attributes SET value_json = ? WHERE study_user_attribute_id = ?", (raced, number)
            )
    db.close()


def go_on(folder: Path, train: Callable[..., float], **options: Any) -> TuneResult:
    return tiny_tune(folder, train, **{"resume": "anyway", **options})


def test_a_finished_one_returns_its_result(tmp_path: Path) -> None:
    before = tiny_tune(tmp_path, Trainings())
    make_earlier(tmp_path)
    again = go_on(tmp_path, never)
    assert again.already_finished
    assert (again.params, again.score) == (before.params, before.score)


def test_a_race_goes_on_without_one_and_who_was_stopped_in_it_stays_so(tmp_path: Path) -> None:
    """Of two that were confirmed the second was stopped; of three, one is new."""

    def raced(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if width(model) == 16 and report.number == 1:
            report(0.0, 1)
            raise TrialPruned("stopped after epoch 1 of 2: 0.2 behind the best")
        return Trainings()(model, params, report)

    before = tiny_tune(tmp_path, raced).record
    assert [each["outcome"] for each in before["confirmation"]] == ["complete", "pruned"]
    make_earlier(tmp_path)
    trained = Trainings()
    record = go_on(tmp_path, trained, search=replace(SMALL, confirm=3)).record
    assert [(wide, epochs) for wide, epochs, _ in trained.made] == [(16, 2)]
    assert [each["outcome"] for each in record["confirmation"]] == ["complete", "pruned", "complete"]
    assert record["confirmation"][:2] == before["confirmation"]
    assert record["winner"] == before["winner"]  # the best on the proxy is the best in full, by this train function
    assert [rung["entrants"] for rung in record["ladder"]["rungs"]] == [4, 3]


def test_another_trial_pruner_of_full_trainings_is_none_of_ours(tmp_path: Path) -> None:
    tiny_tune(tmp_path, Trainings())
    make_earlier(tmp_path)
    with sqlite3.connect(tmp_path / "study.db") as db:
        db.execute("UPDATE study_user_attributes SET value_json = replace(value_json, '\"race\"', '\"asha\"')")
    db.close()
    with pytest.raises(SearchError, match="'confirm' was started with trial_pruner = 'asha', now it is 'none'"):
        go_on(tmp_path, never, search=replace(SMALL, confirm=3))


def test_one_that_was_stopped_in_a_search_of_short_trials_goes_on_with_these(tmp_path: Path) -> None:
    """A third of three epochs."""
    ladder = Ladder(Rung(None, epochs=1 / 3, trials=4, keep=2), Rung())
    search = Search(direction="maximize", optimizer="random", trial_pruner="none")
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, Trainings(stop_before=3), search=search, ladder=ladder, epochs=3)
    make_earlier(tmp_path, fidelity=1 / 3)
    trained = Trainings()
    record = go_on(tmp_path, trained, epochs=3).record
    assert [(wide, epochs) for wide, epochs, _ in trained.made] == [(8, 1)] * 2 + [(16, 3)] * 2
    assert record["status"] == "finished"
    assert record["ladder"]["plan"]["ladder"][0]["epochs"] == pytest.approx(1 / 3)


def test_a_refined_winner_stays_where_a_longer_search_finds_nothing_better(tmp_path: Path) -> None:
    """It is counted as trial 4, which the fifth trial of the longer search is too."""
    before = tiny_tune(tmp_path, Trainings())
    refining = {"space": {}, "told": {}, "trials": [{"refine_trial": 1, **training(score=17.5)}]}
    make_earlier(tmp_path, refine=1, refinement=refining, winner={**_refined_winner(1, 17.5), "params": {"lr": 0.1}})
    weights = before.weights.read_bytes()
    longer = {"search": replace(SMALL, n_trials=6), "first": [{"lr": 0.999, "steps": 1}]}
    record = go_on(tmp_path, Trainings(), **longer).record
    assert (4, 16.999) in [(each["trial"], each["base_score"]) for each in record["confirmation"]]
    assert (4, 17.5) in [(each["trial"], each["base_score"]) for each in record["confirmation"]]
    assert (record["winner"]["trial"], record["winner"]["score"]) == (4, 17.5)
    assert before.weights.read_bytes() == weights
    assert go_on(tmp_path, never, **longer).already_finished


def test_a_refined_winner_gives_way_to_what_is_better(tmp_path: Path) -> None:
    tiny_tune(tmp_path, Trainings())
    refining = {"space": {}, "told": {}, "trials": [{"refine_trial": 1, **training(score=16.95)}]}
    make_earlier(tmp_path, refine=1, refinement=refining, winner=_refined_winner(1, 16.95))
    longer = {"search": replace(SMALL, n_trials=6), "first": [{"lr": 0.999, "steps": 1}]}
    result = go_on(tmp_path, Trainings(), **longer)
    assert (result.params["lr"], result.score) == (0.999, 16.999)
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(0.999)


def test_a_refined_winner_is_trained_again_as_it_was(tmp_path: Path) -> None:
    tiny_tune(tmp_path, Trainings())
    refining = {"space": {}, "told": {}, "trials": [{"refine_trial": 1, **training(score=16.5), "seed": 77}]}
    refining["trials"][0]["params"] = {"lr": 0.5, "steps": 2}
    make_earlier(tmp_path, refine=1, refinement=refining, winner=_refined_winner(1, 16.5))
    trained = Trainings()
    again = retrain(tmp_path, net, trained, resume="anyway")
    assert (trained.made, trained.seeds) == ([(16, 2, 0.5)], [77])
    assert (again.score, again.recorded) == (16.5, 16.5)


def test_its_proxy_is_that_of_its_plan(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, Trainings(stop_before=3))
    make_earlier(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match=r"plan.json is missing or was changed since the run began"):
        go_on(tmp_path, never, pruning=HALF)
