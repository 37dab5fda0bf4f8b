"""What a train function reads of its hyperparameters, and what becomes of those that it never reads."""

from __future__ import annotations

import copy
import io
import json
import multiprocessing
import os
import pickle
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import prunetune
from prunetune.backends import Float
from prunetune.backends.study.trial import Report
from prunetune.console.progress import show_progress
from prunetune.console.summary import print_summary
from prunetune.events import Event, TrialEnded, Warned
from prunetune.tuning.params import ReadDict
from prunetune.tuning.tuner import Search, TuneResult, tune
from tiny_tune import HALF, INPUTS, SMALL, make_quick, net, read_record

VALUES = {"lr": 0.1, "dropout": 0.5}


@dataclass
class Settings:
    lr: float
    dropout: float


def matched(params: dict[str, Any]) -> float:
    match params:
        case {"lr": float(lr)}:
            return lr
    raise AssertionError


def in_a_fork(params: dict[str, Any]) -> None:
    child = os.fork()
    if not child:
        try:
            params["lr"]
        finally:
            os._exit(0)  # whatever happens: it is a copy of the process that runs the tests
    os.waitpid(child, 0)


READS_ALL: list[Callable[[dict[str, Any]], object]] = [
    lambda params: {**params},
    lambda params: dict(params),
    lambda params: Settings(**params),
    lambda params: SimpleNamespace(**params).lr,
    lambda params: "{lr}".format(**params),
    lambda params: json.dumps(params),
    lambda params: json.dumps({"all": params}, indent=1),
    lambda params: pickle.loads(pickle.dumps(params)),
    lambda params: pickle.loads(multiprocessing.reduction.ForkingPickler.dumps(params)),
    lambda params: copy.copy(params),
    lambda params: copy.deepcopy({"all": params}),
    lambda params: params.copy(),
    lambda params: list(params.items()),
    lambda params: sum(params.values()),
    lambda params: params | {"momentum": 0.9},
    lambda params: {"momentum": 0.9} | params,
    lambda params: {}.update(params),
    lambda params: [params[name] for name in params],
    lambda params: params == VALUES,
]
READS_LR: list[Callable[[dict[str, Any]], object]] = [
    lambda params: params["lr"],
    lambda params: params.get("lr"),
    lambda params: params.get("lr", 3) + params.get("momentum", 0.9),
    lambda params: params.pop("lr"),
    lambda params: params.setdefault("lr", 3),
    lambda params: itemgetter("lr")(params),
    lambda params: "{lr}".format_map(params),
    lambda params: ChainMap({}, params)["lr"],
    matched,
    in_a_fork,
]
READS_NONE: list[Callable[[dict[str, Any]], object]] = [
    repr,
    len,
    list,
    bool,
    lambda params: print(params, file=io.StringIO()),
    lambda params: "lr" in params,
    lambda params: params.get("momentum"),
    lambda params: params.update(lr=3),
]


@pytest.mark.parametrize(
    ("read", "unread"),
    [
        *((each, ()) for each in READS_ALL),
        *((each, ("dropout",)) for each in READS_LR),
        *((each, ("lr", "dropout")) for each in READS_NONE),
    ],
)
def test_what_counts_as_read(read: Callable[[dict[str, Any]], object], unread: tuple[str, ...]) -> None:
    params = ReadDict(VALUES)
    read(params)
    assert params.unread == unread


@pytest.mark.parametrize("read", [*READS_ALL, *READS_LR, *READS_NONE])
def test_it_does_what_a_dict_does(read: Callable[[dict[str, Any]], object]) -> None:
    mine, plain = ReadDict(VALUES), dict(VALUES)
    assert read(mine) == read(plain)
    assert dict(mine) == plain
    assert isinstance(mine, dict)


SPACE = {"lr": Float(1e-3, 1.0, log=True), "dropout": Float(0.0, 0.9)}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def score(model: nn.Module, rate: float) -> float:
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    return rate


def careless(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    print(f"training with {params}", file=io.StringIO())
    return score(model, params["lr"])


def run(folder: Path, train: Any, events: list[Event] | None = None, search: Search = SMALL) -> TuneResult:
    observer = (events if events is not None else []).append
    options = {"example_inputs": INPUTS, "epochs": 2, "pruning": HALF, "search": search, "observer": observer}
    return tune(net, train, SPACE, run_dir=folder, **options)


def test_one_that_nobody_reads_is_named_after_the_first_trial_and_is_not_reported_as_best(tmp_path: Path) -> None:
    events: list[Event] = []
    result = run(tmp_path, careless, events)
    warned = [place for place, event in enumerate(events) if isinstance(event, Warned)]
    ended = [place for place, event in enumerate(events) if isinstance(event, TrialEnded)]
    (place,) = warned  # once, and not for the full network again
    assert place < ended[0]
    said = events[place]
    assert isinstance(said, Warned)
    assert "has not read params['dropout'], so searching it changes nothing; use it in train" in said.message
    assert result.not_read == ("dropout",)
    assert set(result.params) == {"lr"}
    best = json.loads((tmp_path / "best.json").read_text())
    assert (set(best["params"]), set(best["not_read"])) == ({"lr"}, {"dropout"})
    record = read_record(tmp_path)
    assert set(record["winner"]["params"]) == {"lr", "dropout"}  # what the training had, all the same
    assert any("has not read params['dropout']" in note for note in record["search"]["notes"])
    console = Console(file=io.StringIO(), width=120)
    print_summary(console, tmp_path)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not read by train" in printed
    assert f"dropout {best['not_read']['dropout']:.4g}" not in printed
    assert run(tmp_path, careless).not_read == ("dropout",)


def test_the_report_does_not_call_it_best(tmp_path: Path) -> None:
    from prunetune.report.page import render
    from prunetune.report.run import load_run

    run(tmp_path, careless)
    read = load_run(tmp_path)
    assert set(read.best_params) == {"lr"}
    said = "Not read by the train function in any trial, so that the search says nothing of it: dropout."
    assert said in render(read)


def test_one_that_is_read_now_and_then_is_like_any_other(tmp_path: Path) -> None:
    """As a momentum that only one of two optimizers has: the first trial that reads it clears it."""

    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        return score(model, params["lr"] * (params["dropout"] if report.number == 3 else 1.0))

    events: list[Event] = []
    result = run(tmp_path, train, events)
    assert any(isinstance(event, Warned) for event in events)
    assert result.not_read == ()
    assert set(result.params) == {"lr", "dropout"}


def test_trials_that_failed_say_nothing(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if report.number == 0 and report.phase == "search":
            raise ValueError("before anything was read")
        return score(model, params["lr"] + params["dropout"])

    result = run(tmp_path, train)
    assert result.not_read == ()


def test_what_a_train_function_does_with_its_params_is_its_own_business(tmp_path: Path) -> None:
    """Taken out one by one, in the search as on the full network."""

    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        return score(model, params.pop("lr") + params.pop("dropout"))

    search = Search(direction="maximize", n_trials=3, confirm=1, optimizer="random")
    record = run(tmp_path, train, search=search).record
    assert record["search"]["trials"]["failed"] == 0
    assert set(record["winner"]["params"]) == {"lr", "dropout"}


def test_an_objective_of_ones_own_warns_as_well_at_the_line_that_called_it() -> None:
    objective = prunetune.proxy_objective(
        net, careless, SPACE, example_inputs=INPUTS, epochs=2, pruning=HALF, direction="maximize"
    )
    with pytest.warns(UserWarning, match=r"has not read params\['dropout'\]") as heard:
        objective.loss([0.1, 0.5])
    source = Path(__file__).read_text().splitlines()
    assert heard[0].filename == __file__
    assert source[heard[0].lineno - 1].strip() == "objective.loss([0.1, 0.5])"


def test_a_search_that_nobody_observes_warns_where_it_was_started(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"has not read params\['dropout'\]") as heard:
        tune(
            net, careless, SPACE, run_dir=tmp_path, example_inputs=INPUTS, epochs=2, pruning=HALF, search=SMALL,
            observer=prunetune.silent,
        )  # fmt: skip
    assert {each.filename for each in heard} == {__file__}


def test_the_terminal_says_it(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    with show_progress(console) as progress:
        options = {"example_inputs": INPUTS, "epochs": 2, "pruning": HALF, "search": SMALL, "observer": progress}
        tune(net, careless, SPACE, run_dir=tmp_path, **options)
    assert "warning: the train function has not read params['dropout']" in console.file.getvalue()  # type: ignore[attr-defined]
