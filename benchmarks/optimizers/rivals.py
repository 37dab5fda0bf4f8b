"""The same optimizers driven by ask and tell as their own libraries describe it, to be compared with our adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import optuna

from benchmarks.common.curves import Table
from benchmarks.optimizers.runs import Record
from prunetune._utils.quiet import quietly
from prunetune._utils.seeds import derive_seed
from prunetune.backends import Float, Int, SearchSpace, optimizers
from prunetune.backends.samplers.nevergrad import BUDGET, WORKERS, NevergradFactory, NevergradSampler
from prunetune.backends.space import Params

Ask: TypeAlias = Callable[[], tuple[Params, Callable[[float], None]]]
"""The next hyperparameters, and how to tell their loss."""

ESTIMATORS: Final[Mapping[str, str]] = {"skopt:gp": "GP", "skopt:forest": "RF", "skopt:et": "ET"}
CMAES: Final = "optuna:cmaes"


def has(optimizer: str) -> bool:
    """Whether our adapter does more than to give it a seed, as that of most of Optuna's does."""
    return optimizer.startswith(("nevergrad:", "skopt:")) or optimizer == CMAES


def has_integers(optimizer: str) -> bool:
    """Whether its library has a way of its own with whole numbers, which our adapter has not."""
    return optimizer.startswith("nevergrad:")


def has_startup(optimizer: str) -> bool:
    """Whether the adapter of an optimizer of Nevergrad's begins with points that Nevergrad itself does not have."""
    return optimizer.startswith("nevergrad:") and _method(optimizer).startup > 1


def without_startup(optimizer: str, seed: int) -> NevergradSampler:
    """The adapter without those points."""
    return NevergradSampler(_method(optimizer).name, derive_seed(seed, "sampler", 0))


def _method(optimizer: str) -> NevergradFactory:
    method = optimizers[optimizer]
    assert isinstance(method, NevergradFactory)
    return method


def search(table: Table, optimizer: str, seed: int, trials: int, *, integers: bool = False) -> Record:
    """So many full trials. A diverged one is told as the worst score so far, as to our adapters.

    With ``integers`` Nevergrad is told that batch sizes are whole numbers, otherwise they are rounded for it, which is
    what our adapter does. scikit-optimize is always told.
    """
    record, losses = Record(), list[float]()
    with quietly():  # what they warn of: losses that are clipped, points that come twice
        if optimizer == CMAES:
            ask = _cmaes(table, seed)
        elif optimizer in ESTIMATORS:
            ask = _skopt(table, optimizer, seed)
        else:
            ask = _nevergrad(table, optimizer, seed, integers)
        for _ in range(trials):
            params, tell = ask()
            score = float(table.curve(params)[-1])
            diverged = math.isnan(score)
            record.add(table.epochs, None if diverged else score)
            losses.append(max(losses, default=1.0) if diverged else 1 - score)
            tell(losses[-1])
    return record


def _nevergrad(table: Table, optimizer: str, seed: int, integers: bool) -> Ask:
    import nevergrad

    from prunetune.interop.nevergrad import to_nevergrad

    space = to_nevergrad(table.space if integers else _continuous(table.space))
    space.random_state.seed(seed)
    # With another budget or one worker NGOpt is another method than the adapter's; the others do not look.
    driven = nevergrad.optimizers.registry[_method(optimizer).name](space, budget=BUDGET, num_workers=WORKERS)

    def ask() -> tuple[Params, Callable[[float], None]]:
        candidate = driven.ask()
        params = {**candidate.value, "batch_size": round(candidate.value["batch_size"])}
        return params, lambda loss: driven.tell(candidate, loss)

    return ask


def _continuous(space: SearchSpace) -> SearchSpace:
    return SearchSpace(
        {
            name: Float(each.low, each.high, log=each.log) if isinstance(each, Int) else each
            for name, each in space.items()
        }
    )


def _cmaes(table: Table, seed: int) -> Ask:
    study = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=seed))

    def ask() -> tuple[Params, Callable[[float], None]]:
        trial = study.ask(table.space.to_optuna())

        def tell(loss: float) -> None:
            study.tell(trial, loss)

        return trial.params, tell

    return ask


def _skopt(table: Table, optimizer: str, seed: int) -> Ask:
    from skopt import Optimizer

    from prunetune.interop.skopt import to_skopt

    driven = Optimizer(
        to_skopt(table.space),
        base_estimator=ESTIMATORS[optimizer],
        n_initial_points=10,
        initial_point_generator="sobol",  # as the adapter's first points
        random_state=seed,
    )

    def ask() -> tuple[Params, Callable[[float], None]]:
        point = driven.ask()
        return table.space.named(point), lambda loss: driven.tell(point, loss)

    return ask
