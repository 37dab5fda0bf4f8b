"""The proxy as the objective of optimizers that users drive themselves."""

from __future__ import annotations

import math
from typing import Any

import nevergrad
import optuna
import pytest
import skopt
import torch
from torch import nn

import prunetune
from prunetune import Categorical, Float, Int, Pruning, SearchSpace
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError
from prunetune.interop.nevergrad import from_nevergrad, to_nevergrad
from prunetune.interop.skopt import from_skopt, to_skopt
from tiny_tune import touch

X = torch.zeros(2, 4)
SPACE = SearchSpace({"x": Float(0, 1), "n": Int(1, 4), "c": Categorical(["a", "b"])})
EVERYTHING = SearchSpace({**SPACE, "lr": Float(1e-5, 0.2, log=True), "batch": Int(32, 1024, log=True)})
HALF = Pruning(scorer="magnitude", ratio=0.5)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """The best is x = 0.25."""
    assert model[0].out_features == 4  # type: ignore[index]
    assert [type(value) for value in params.values()] == [float, int, str]
    touch(model)
    for epoch in range(1, report.epochs + 1):
        report(-abs(params["x"] - 0.25), epoch)
    return -abs(params["x"] - 0.25)


def objective(train: Any = train, **options: Any) -> Any:
    return prunetune.proxy_objective(
        build, train, SPACE, example_inputs=X, epochs=3, pruning=HALF, **{"direction": "maximize", **options}
    )


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def test_a_factory_builds_a_fresh_proxy_at_each_call() -> None:
    state = torch.random.get_rng_state()
    factory = prunetune.proxy_of(build, X, HALF)
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second = factory(), factory()
    assert first[0].weight.shape == (4, 4)  # type: ignore[index]
    assert not torch.equal(first[0].weight, second[0].weight)  # type: ignore[index]
    assert factory.plan == prunetune.proxy_of(build, X, HALF).plan
    with pytest.raises(InputError, match="model_fn must be a function that builds the network; got Sequential"):
        prunetune.proxy_of(build(), X)  # type: ignore[arg-type]


def test_study_optimize_and_ask_and_tell() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    maximize = objective()
    study.optimize(maximize, n_trials=3)
    trial = study.ask(SPACE.to_optuna())
    study.tell(trial, maximize(trial))
    assert [each.value for each in study.trials] == [-abs(each.params["x"] - 0.25) for each in study.trials]
    assert study.trials[0].intermediate_values.keys() == {1, 2, 3}


def test_optuna_may_stop_its_trials() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=-1e-9))
    study.optimize(objective(), n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"] * 2
    assert [trial.last_step for trial in study.trials] == [1, 1]


def test_every_trial_has_a_seed_of_its_own() -> None:
    drawn: list[float] = []

    def draw(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        drawn.append(model[0].weight.sum().item())  # type: ignore[index]
        touch(model)
        return 0.0

    for _ in range(2):
        again = objective(draw)
        for _ in range(3):
            again.loss({"x": 0.5, "n": 1, "c": "a"})
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3


def _diverges(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    touch(model)
    if params["n"] == 4:
        report(math.nan, 1)
    return math.inf if params["n"] == 3 else params["n"]


def test_a_trial_that_diverges_is_the_worst_so_far() -> None:
    study = optuna.create_study(direction="maximize")
    for n in (2, 1, 3, 4):
        study.enqueue_trial({"x": 0.5, "n": n, "c": "a"})
    study.optimize(objective(_diverges), n_trials=4)
    assert [trial.value for trial in study.trials] == [2, 1, 1, 1]
    assert [trial.user_attrs.get("outcome") for trial in study.trials] == [None, None, "diverged", "diverged"]
    loss = objective(_diverges).loss
    assert [loss({"x": 0.5, "n": n, "c": "a"}) for n in (2, 1, 3, 4)] == [-2, -1, -1, -1]
    assert objective(_diverges, worst=-7.0).loss([0.5, 4, "a"]) == 7
    assert objective(_diverges, worst=7.0, direction="minimize").loss([0.5, 4, "a"]) == 7
    with pytest.raises(SearchError, match=r"the first trial diverged, .*; say what with proxy_objective\(…, worst=0.0"):
        objective(_diverges).loss([0.5, 4, "a"])


def test_what_a_train_function_raises_comes_through() -> None:
    def fails(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        raise ZeroDivisionError

    study = optuna.create_study(direction="maximize")
    with pytest.raises(ZeroDivisionError):
        study.optimize(objective(fails), n_trials=1)
    with pytest.raises(InputError, match="the train function's return value, its final score, must be one number"):
        objective(lambda *_: None).loss([0.5, 1, "a"])
    with pytest.raises(InputError, match="which scores are better: give direction='maximize' for an accuracy"):
        objective(direction=None)
    with pytest.raises(InputError, match="direction is 'up'"):
        objective(direction="up")
    with pytest.raises(InputError, match=r"2 values for 3 hyperparameters \(x, n, c\)"):
        objective().loss([0.5, 1])


@pytest.mark.filterwarnings("ignore")  # nevergrad's, on budgets
def test_nevergrad_minimize_and_ask_and_tell() -> None:
    parametrization = to_nevergrad(SPACE)
    parametrization.random_state.seed(0)
    optimizer = nevergrad.optimizers.OnePlusOne(parametrization, budget=40)
    loss = objective().loss
    candidate = optimizer.ask()
    optimizer.tell(candidate, loss(candidate.value))
    assert abs(optimizer.minimize(loss).value["x"] - 0.25) < 0.1


@pytest.mark.filterwarnings("ignore")
def test_gp_minimize_and_ask_and_tell() -> None:
    loss = objective().loss
    optimizer = skopt.Optimizer(to_skopt(SPACE), n_initial_points=1, random_state=0)
    point = optimizer.ask()
    optimizer.tell(point, loss(point))
    found = skopt.gp_minimize(loss, to_skopt(SPACE), n_calls=14, n_initial_points=6, random_state=0)
    assert abs(found.x[0] - 0.25) < 0.1


# Spaces there and back


def test_spaces_there_and_back() -> None:
    assert SearchSpace.from_optuna(EVERYTHING.to_optuna()) == EVERYTHING
    assert from_skopt(to_skopt(EVERYTHING)) == EVERYTHING
    back = from_nevergrad(to_nevergrad(EVERYTHING))
    assert {name: back[name] for name in SPACE} == dict(SPACE)
    for name in ("lr", "batch"):
        assert (back[name].low, back[name].high) == pytest.approx((EVERYTHING[name].low, EVERYTHING[name].high))
    assert isinstance(back["batch"], Int)
    assert from_nevergrad(nevergrad.p.Instrumentation(x=nevergrad.p.Scalar(lower=0, upper=1))) == {"x": Float(0, 1)}


@pytest.mark.parametrize("kind", ["nevergrad", "skopt"])
def test_samples_lie_in_the_space(kind: str) -> None:
    dimensions, parametrization = to_skopt(EVERYTHING), to_nevergrad(EVERYTHING)
    parametrization.random_state.seed(0)
    drawn = skopt.space.Space(dimensions).rvs(100, random_state=0)
    points = drawn if kind == "skopt" else [parametrization.sample().value for _ in range(100)]
    for point in points:
        params = EVERYTHING.named(point)
        for name, value in params.items():
            internal = EVERYTHING[name].to_optuna()
            assert internal._contains(internal.to_internal_repr(value))
            assert type(value) in (float, int, str)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: from_nevergrad(nevergrad.p.Dict(x=nevergrad.p.Scalar())), "x: a Scalar without bounds is no range"),
        (lambda: from_nevergrad(nevergrad.p.Dict(x=nevergrad.p.Array(shape=(2,)))), "x: Array is no hyperparameter"),
        (lambda: from_nevergrad(nevergrad.p.Dict(x=3)), "x: Constant is no hyperparameter"),
        (lambda: from_nevergrad(nevergrad.p.Scalar()), "Scalar has no names; take a nevergrad.p.Dict"),
        (lambda: from_nevergrad(nevergrad.p.Instrumentation(1)), "this Instrumentation has arguments without names"),
        (lambda: from_skopt([skopt.space.Real(0, 1)]), "dimension 0, Real(low=0, high=1, prior='uniform', transform="),
    ],
)
def test_what_is_no_search_space_is_named(make: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).startswith(said)
