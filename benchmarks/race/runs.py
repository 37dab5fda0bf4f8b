"""Confirmations of the best few on a proxy, some of which a rule stops."""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from benchmarks.common.curves import CHANCE, Table, load
from benchmarks.race.rivals import RULES
from prunetune.backends.pruners.race import Race
from prunetune.backends.study.attributes import PROXY_CURVE

SEARCHED: Final = 50
NOISE: Final = 0.004
"""Standard deviation of a score: that of an accuracy of 0.9 on 5,600 images."""
CONFIRMED: Final = (3, 5)
REPEATS: Final = {"smoke": 10, "cpu": 400, "full": 2000}

Curves = NDArray[np.float64]  # (configurations, epochs)


def measure(repeats: int, seed: int) -> list[dict[str, Any]]:
    """One row for each base, number of confirmations and rule."""
    rows = []
    for base, proxy in (("digits", "fashion-mnist"), ("fashion-mnist", "digits")):
        for confirmed in CONFIRMED:
            generator = np.random.default_rng([seed, confirmed])
            cases = [draw(load(base), load(proxy), confirmed, generator) for _ in range(repeats)]
            for name, rule in RULES.items():
                ended = [run(rule, *case) for case in cases]
                regret = np.array([points for points, _ in ended])
                saved = float(np.mean([share for _, share in ended]))
                rows.append(
                    {
                        "base": base,
                        "confirmed": confirmed,
                        "rule": name,
                        "another_wins": float(np.mean(regret > 0)),
                        "regret_points": float(regret.mean()),
                        "worst_regret_points": float(regret.max()),
                        "epochs_saved": saved,
                    }
                )
                print(f"{base}, {confirmed} confirmed: {name}", file=sys.stderr, flush=True)
    return rows


def draw(base: Table, proxy: Table, confirmed: int, generator: np.random.Generator) -> tuple[Curves, Curves]:
    """Learning curves of the proxy's best few of random configurations, best first: on the base and on the proxy."""
    places = generator.random((SEARCHED, len(base.space)))
    on_base, on_proxy = (
        np.stack([np.nan_to_num(each.curve(at(each, place)), nan=CHANCE) for place in places])
        + generator.normal(0, NOISE, (SEARCHED, each.epochs))
        for each in (base, proxy)
    )
    best = np.argsort(-on_proxy[:, -1], kind="stable")[:confirmed]
    return on_base[best], on_proxy[best]


def at(table: Table, place: NDArray[np.float64]) -> dict[str, float]:
    """The hyperparameters at a place of the unit cube."""
    params = {}
    for (name, points), share in zip(table.grid.items(), place, strict=True):
        low, high = points[0], points[-1]
        log = getattr(table.space[name], "log", False)
        params[name] = float(low * (high / low) ** share if log else low + share * (high - low))
    return params


def run(rule: type[Race], on_base: Curves, on_proxy: Curves) -> tuple[float, float]:
    """Points that the winner is worse than the best of all, and the share of epochs that was saved."""
    epochs = on_base.shape[1]
    study = optuna.create_study(direction="maximize", pruner=rule(epochs))
    trained, finished = 0, []
    for curve, known in zip(on_base, on_proxy, strict=True):
        study.enqueue_trial({}, user_attrs={PROXY_CURVE: list(enumerate(known.tolist(), 1))})
        trial = study.ask()
        ended = epochs
        for epoch, score in enumerate(curve.tolist(), 1):
            trial.report(score, epoch)
            if epoch < epochs and trial.should_prune():
                ended = epoch
                break
        trained += ended
        if ended == epochs:
            finished.append(curve[-1])
            study.tell(trial, curve[-1])
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return 100 * float(on_base[:, -1].max() - max(finished)), 1 - trained / on_base.size
