"""Objects where names are asked for, and paths that are none or that a train function leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner, ThresholdPruner
from optuna.samplers import RandomSampler, TPESampler
from torch import nn

from prunetune.backends.study.trial import Report
from prunetune.comparison.settings import Comparison
from prunetune.errors import InputError
from prunetune.pruning.cut import prune
from prunetune.record.folder import RunFolder
from prunetune.tuning.settings import Pruning, Search
from prunetune.tuning.tuner import tune
from prunetune.tuning.worker import work
from tiny_tune import HALF, INPUTS, SMALL, SPACE, interrupt, make_quick, net, read_record, tiny_tune, train

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def _search(**options: Any) -> Search:
    return replace(SMALL, **options)


def test_a_sampler_of_optunas_searches_as_it_would_in_a_study_of_ones_own(tmp_path: Path) -> None:
    search = _search(optimizer=RandomSampler(seed=7))
    record = tiny_tune(tmp_path, search=search).record
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=7))
    own = [study.ask(SPACE.to_optuna()).params["lr"] for _ in range(4)]
    assert record["search"]["best"]["params"]["lr"] == max(own)
    assert (record["optimizer"], read_record(tmp_path)["optimizer"]) == ("object RandomSampler", "object RandomSampler")
    assert any(
        note.startswith("RandomSampler: an object's random state is not kept") for note in record["search"]["notes"]
    )
    assert tiny_tune(tmp_path, search=_search(optimizer=RandomSampler(seed=7))).already_finished
    with pytest.raises(InputError, match="optimizer = 'object RandomSampler', now it is 'object TPESampler'"):
        tiny_tune(tmp_path, search=_search(optimizer=TPESampler()))


def test_a_pruner_of_optunas_stops_trials(tmp_path: Path) -> None:
    """On the proxy, 8 wide, every score after the first epoch is below 8."""
    search = _search(trial_pruner=ThresholdPruner(lower=8.0), confirm=1)
    with pytest.raises(Exception, match="no training on the first rung came to a score; 4 stopped early"):
        tiny_tune(tmp_path, search=search)


@pytest.mark.parametrize("pruner", [None, NopPruner(), MedianPruner()])
def test_a_search_with_any_pruner_ends(pruner: Any, tmp_path: Path) -> None:
    record = tiny_tune(tmp_path, search=_search(trial_pruner=pruner)).record
    assert record["trial_pruner"] == ("none" if pruner is None else f"object {type(pruner).__name__}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"optimizer": TPESampler},
            r"optimizer is the class TPESampler; give an object of it, TPESampler\(\), or a name",
        ),
        ({"optimizer": None}, "optimizer must be a name, or a sampler of Optuna's; got NoneType"),
        ({"optimizer": MedianPruner()}, "optimizer must be a name, or a sampler of Optuna's; got MedianPruner"),
        ({"trial_pruner": 3}, "trial_pruner must be a name, or a pruner of Optuna's; got int"),
        ({"storage": 3}, "storage must be a URL; got int"),
    ],
)
def test_what_is_neither_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        _search(**options)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Pruning(scorer=3), "the scorer must be a name; got int"),
        (lambda: Pruning(transfer=["mup"]), "the transfer rule must be a name; got list"),
        (lambda: Comparison(optimizers=[TPESampler()]), "the optimizer must be a name; got TPESampler"),
        (lambda: Comparison(scorers=[3]), "the scorer must be a name; got int"),
        (lambda: prune(net(), INPUTS, scorer=3), "the scorer must be a name, or an object of a Scorer; got int"),
        (lambda: _search(study=3, storage="journal:x"), "study is 3, but it must be a name of 1 to 200 characters"),
    ],
)
def test_what_is_no_name_is_one_sentence(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_search_with_an_object_cannot_be_joined(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/log"
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path / "run", train=interrupt, search=_search(optimizer=TPESampler(), storage=url))
    with pytest.raises(
        InputError, match="the search uses an object TPESampler, which only the process that made it has"
    ):
        work(net, train, url)


def elsewhere(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """A train function that changes the folder."""
    Path("deeper").mkdir(exist_ok=True)
    os.chdir("deeper")
    return train(model, params, report)


@pytest.mark.parametrize("storage", [None, "journal:///log", "sqlite:///own.db"])
def test_a_train_function_may_change_the_folder(
    storage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if storage == "journal:///log":
        storage = "journal:log"
    result = tiny_tune(Path("runs/mine"), train=elsewhere, search=_search(storage=storage))
    assert result.run_dir == tmp_path / "runs" / "mine"
    assert read_record(result.run_dir)["status"] == "finished"
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "deeper", "log", "own.db"}
    assert not [*tmp_path.glob("deeper/**/*.db"), *tmp_path.glob("deeper/**/log"), *tmp_path.glob("deeper/**/*.json")]


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    result = tiny_tune(Path("~/mine"), search=_search(storage="journal:///~/log"))
    assert result.run_dir == tmp_path / "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "mine"]
    with RunFolder("~/other") as folder:
        assert folder.path == tmp_path / "other"


@pytest.mark.parametrize("path", [None, "", 3, b"x", ["x"]])
def test_what_is_no_folder_is_one_sentence(path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"the run folder is .*, but it must be a path, such as 'runs/mine'"):
        tune(net, train, SPACE, example_inputs=INPUTS, epochs=2, run_dir=path, pruning=HALF, search=SMALL)
    assert not list(tmp_path.iterdir())
