"""Hyperparameters of the network: ``model_fn(params)`` and one plan; of several plans see ``test_plans.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune import Categorical, Float, Int, SearchSpace
from prunetune.backends.study.loop import Report
from prunetune.errors import InputError
from prunetune.tuning.architecture import Architecture, middle, network_of
from tiny_tune import touch

INPUTS = torch.zeros(4, 6)
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
SPACE = SearchSpace(
    {"lr": Float(0.01, 1, log=True), "dropout": Float(0.0, 0.6), "activation": Categorical(["relu", "gelu"])}
)
SMALL = prunetune.Ladder(prunetune.Rung(width=1 / 2, trials=6, keep=1), prunetune.Rung())


def build(params: dict[str, Any]) -> nn.Module:
    activation, dropout = ACTIVATIONS[params["activation"]], nn.Dropout(params["dropout"])
    return nn.Sequential(nn.Linear(6, 16), activation(), dropout, nn.Linear(16, 2))


class Train:
    """Notes what network it was given for which hyperparameters."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Any], int, float, str]] = []

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        assert isinstance(model, nn.Sequential)
        given = {name: params[name] for name in params}
        self.seen.append((given, model[0].out_features, model[2].p, type(model[1]).__name__))
        report(params["lr"], 1)
        return float(params["lr"])


def tune(run_dir: Path, train: Any, model_fn: Any = build, **options: Any) -> prunetune.TuneResult:
    given = {"ladder": SMALL, "search": prunetune.Search(direction="maximize"), "observer": prunetune.silent}
    options = {"example_inputs": INPUTS, "epochs": 1, **given, **options}
    return prunetune.tune(model_fn, train, options.pop("space", SPACE), run_dir=run_dir, **options)


def test_every_training_has_the_network_of_its_hyperparameters(tmp_path: Path) -> None:
    train = Train()
    result = tune(tmp_path / "run", train)
    assert [width for _, width, _, _ in train.seen] == [8] * 6 + [16]
    for params, _, dropout, activation in train.seen:
        assert dropout == params["dropout"]
        assert activation == ACTIVATIONS[params["activation"]].__name__
    assert len({activation for *_, activation in train.seen}) == 2
    assert result.params == train.seen[-1][0]
    winner = build(result.params)
    result.load_weights(winner)
    again = prunetune.retrain(tmp_path / "run", build, train)
    assert again.score == again.recorded == result.score
    assert again.model[2].p == result.params["dropout"]


def test_the_winner_is_tested_with_its_own_network(tmp_path: Path) -> None:
    result = tune(tmp_path / "run", Train(), evaluate=lambda model: model[2].p)
    assert result.record["test"] == {"score": result.params["dropout"]}


def test_a_hyperparameter_that_the_network_reads_is_read(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        report(params["lr"], 1)
        return float(params["lr"])

    result = tune(tmp_path / "run", train)
    assert set(result.params) == {"lr", "dropout", "activation"}
    unread = tune(tmp_path / "other", train, lambda params: build({"dropout": 0.1, "activation": params["activation"]}))
    assert set(unread.params) == {"lr", "activation"}


def test_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="depth=True and a model_fn that takes params do not go together"):
        tune(tmp_path / "run", Train(), ladder="paper", pruning=prunetune.Pruning(flops=0.3, depth=True))


def test_where_there_are_no_hyperparameters_it_says_so() -> None:
    with pytest.raises(InputError, match="model_fn takes params, but there is no search here that could give any"):
        prunetune.proxy_of(build, INPUTS)  # type: ignore[arg-type]


def test_an_argument_of_another_name_is_no_hyperparameters() -> None:
    def sized(width: int) -> nn.Module:
        return nn.Linear(width, 2)

    with pytest.raises(InputError, match="model_fn is called without arguments, but sized needs some"):
        prunetune.proxy_of(sized, INPUTS)  # type: ignore[arg-type]


def test_the_middle_by_hand() -> None:
    space = SearchSpace(
        {
            "a": Float(0.01, 1, log=True), "b": Int(1, 5), "c": Float(0, 1, step=0.4 / 2), "d": Categorical(["x", "y"]),
            "e": Int(2, 32, log=True), "f": Categorical([64, 16, 256]), "g": Categorical([True, False]),
        }
    )  # fmt: skip
    found = middle(space)
    assert found == {"a": pytest.approx(0.1), "b": 3, "c": pytest.approx(0.4), "d": "x", "e": 8, "f": 64, "g": True}
    assert space.complaint(found) == ""
    assert isinstance(network_of(build, SPACE), Architecture)
    assert network_of(nn.Identity, SPACE) is nn.Identity


def test_a_check_and_an_own_search_build_it_too(tmp_path: Path) -> None:
    train = Train()
    objective = prunetune.proxy_objective(
        build, train, SPACE, example_inputs=INPUTS, epochs=1, rung=prunetune.Rung(width=1 / 2), direction="maximize"
    )
    params = {"lr": 0.5, "dropout": 0.25, "activation": "gelu"}
    assert objective.loss(params) == -0.5
    assert train.seen == [(params, 8, 0.25, "GELU")]
    found = prunetune.check(
        build, train, SPACE, example_inputs=INPUTS, epochs=1, run_dir=tmp_path / "check",
        search=prunetune.Search(direction="maximize"), configurations=6, observer=prunetune.silent,
    )  # fmt: skip
    assert found is not None
    assert all(dropout == params["dropout"] for params, _, dropout, _ in train.seen)


def test_a_worker_joins_with_the_same_function(tmp_path: Path) -> None:
    url, train = f"journal:///{tmp_path}/search.log", Train()
    tune(tmp_path / "run", train, search=prunetune.Search(direction="maximize", storage=url, study="mine"))
    assert prunetune.work(build, train, url) == 0  # it is finished, and the worker has built and compared the network
    with pytest.raises(InputError, match="model_fn is another|another model_fn|network"):
        prunetune.work(lambda params: nn.Sequential(*build(params), nn.Identity()), train, url)
