"""What is the caller's stays as it was: random generators, numpy's error handling, the hyperparameters of a trial."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn

import prunetune
from prunetune._utils.caller import random_state_kept, seed_all
from prunetune.backends.study.trial import Report
from prunetune.checking.proxy_check import check
from prunetune.comparison.compare import compare
from prunetune.comparison.settings import Comparison
from prunetune.errors import InputError
from prunetune.events import Event, TrialStarted
from prunetune.tuning.own_search import proxy_objective
from prunetune.tuning.retraining import retrain
from prunetune.tuning.tuner import Search
from tiny_tune import HALF, INPUTS, SMALL, SPACE, interrupt, make_quick, net, tiny_tune, touch, train

pytestmark = pytest.mark.filterwarnings("error")
X, Y = torch.randn(32, 6, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def learn(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """A real training: random order, dropout-like noise, a score that depends on every bit."""
    sgd = torch.optim.SGD(model.parameters(), lr=params["lr"] / 10)
    loss = torch.zeros(())
    for epoch in range(1, report.epochs + 1):
        for _ in range(params["steps"]):
            order = torch.randperm(32)
            loss = nn.functional.cross_entropy(model(X[order] + 0.1 * torch.randn(32, 6)), Y[order])
            sgd.zero_grad()
            torch.autograd.backward(loss)
            sgd.step()
        report(-loss.item() + random.random() / 100 + float(np.random.rand()) / 100, epoch)
    return -loss.item()


def _prune(folder: Path) -> None:
    with torch.random.fork_rng():
        model = net()
    prunetune.prune(model, INPUTS, scorer="random", ratio=0.5, seed=3)


def _tune(folder: Path) -> None:
    tiny_tune(folder, train=learn)


def _failing(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(folder, train=interrupt)


def _check(folder: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "pruning": HALF, "search": SMALL, "configurations": 4}
    check(net, learn, SPACE, example_inputs=INPUTS, run_dir=folder, **options)


def _compare(folder: Path) -> None:
    asked = Comparison(
        scorers=("magnitude",), sizes=(0.5,), rivals=(), configurations=4, seeds=1, truth_seeds=1, confirm=1
    )
    options: dict[str, Any] = {"epochs": 1, "comparison": asked, "direction": "maximize"}
    compare(net, learn, SPACE, example_inputs=INPUTS, run_dir=folder, **options)


def _objective(folder: Path) -> None:
    objective = _proxy_objective()
    objective.loss({"lr": 0.1, "steps": 1})


def _proxy_objective() -> prunetune.tuning.own_search.ProxyObjective:
    options: dict[str, Any] = {"epochs": 2, "pruning": replace(HALF, optimizers="sgd"), "direction": "maximize"}
    return proxy_objective(net, learn, SPACE, example_inputs=INPUTS, **options)


@pytest.mark.parametrize("call", [_prune, _tune, _failing, _check, _compare, _objective])
def test_the_random_generators_are_as_they_were(call: Callable[[Path], None], tmp_path: Path) -> None:
    seed_all(11)
    expected = draws()
    seed_all(11)
    call(tmp_path / "run")
    assert draws() == expected


def test_gpus_that_nobody_has_used_begin_with_the_callers_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(5)
    with random_state_kept():
        torch.manual_seed(6)
    assert seeds == [5, 6, 5]
    assert not torch.cuda.is_initialized()


@pytest.mark.parametrize("optimizer", ["bo", "optuna:gp", "tpe", "cma-es"])
def test_numpy_that_raises_ends_no_optimizer_and_is_the_train_functions_own(optimizer: str, tmp_path: Path) -> None:
    """A Gaussian process over twelve points far apart: exp(-large) is 0, and an underflow."""
    handled: list[dict[str, str]] = []

    def watching(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        handled.append(dict(np.geterr()))
        touch(model)
        return 1e6 * params["lr"]

    raising = dict.fromkeys(("divide", "over", "under", "invalid"), "raise")
    search = Search(direction="maximize", n_trials=14, confirm=1, optimizer=optimizer, trial_pruner="none")
    with np.errstate(all="raise"):
        record = tiny_tune(tmp_path, train=watching, search=search).record
        assert np.geterr() == raising
    assert record["search"]["trials"]["complete"] == 14
    assert handled == [raising] * 15


def test_what_a_train_function_takes_out_of_its_hyperparameters_is_missed_by_nobody(tmp_path: Path) -> None:
    seen: list[float] = []
    events: list[Event] = []

    def popping(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        seen.append(params.pop("lr"))
        params.clear()
        for epoch in range(1, report.epochs + 1):
            report(seen[-1], epoch)
        return seen[-1]

    search = replace(SMALL, trial_pruner="asha")
    result = tiny_tune(tmp_path, train=popping, search=search, epochs=9, observer=events.append)
    assert result.record["search"]["trials"]["failed"] == 0
    assert result.params["lr"] == result.score == max(seen)
    started = [event for event in events if isinstance(event, TrialStarted)]
    assert all(event.params.keys() == {"lr", "steps"} for event in started)


def test_a_proxy_objective_scores_alike_in_every_study() -> None:
    def scores() -> list[float]:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(_proxy_objective(), n_trials=3)
        return [trial.value or 0.0 for trial in study.trials]

    assert scores() == scores()


@pytest.mark.parametrize("confirm", [0, 3])
def test_the_winner_is_trained_again_bit_for_bit(confirm: int, tmp_path: Path) -> None:
    result = tiny_tune(tmp_path, train=learn, search=replace(SMALL, confirm=confirm))
    random.seed(99)
    again = retrain(tmp_path, net, learn)
    assert (again.score, again.recorded, again.params) == (result.score, result.score, result.params)
    model = net()
    result.load_weights(model)
    for mine, theirs in zip(again.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert again.seed == result.record["winner"]["seed"]
    assert retrain(tmp_path, net, learn, seed=5).score != again.score


def test_only_what_was_won_is_trained_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path, train=interrupt)
    with pytest.raises(InputError, match="has no winner yet; end it with tune"):
        retrain(tmp_path, net, train)
    tiny_tune(tmp_path)
    with pytest.raises(InputError, match="was started with another train function"):
        retrain(tmp_path, net, learn)


def test_public_seeding_seeds_all_three() -> None:
    prunetune.seed_all(3)
    first = draws()
    prunetune.seed_all(3)
    assert draws() == first
