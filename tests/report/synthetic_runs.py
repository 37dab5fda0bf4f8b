"""Synthetic run folders: a hand-written ``result.json`` beside real Optuna studies with known values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from prunetune.report.trials import Trial, plain_trial

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "momentum": FloatDistribution(0.0, 1.0),
    "batch_size": IntDistribution(16, 256, log=True),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
}

RESULT: dict[str, Any] = {
    "format": 1,
    "status": "finished",
    "seed": 7,
    "direction": "maximize",
    "command": "prunetune run config.toml --out runs/demo",
    "versions": {"prunetune": "0.2.0", "torch": "2.15.0", "optuna": "5.0.0"},
    "machine": {"cpu": "some cpu", "cores": 2, "device": "cpu"},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}},
    "optimizer": "tpe",
    "trial_pruner": "hyperband",
    "n_trials": 5,
    "epochs": 3,
    "confirm": 4,
    "pruning": {
        "scorer": "synflow",
        "percentile": 85,
        "floor": 0.15,
        "ratio": None,
        "seconds": 2.0,
        "layers": [
            {"name": "conv1", "before": [64, 3, 3, 3], "after": [10, 3, 3, 3]},
            {"name": "fc", "before": [10, 64], "after": [10, 10]},
        ],
        "groups": [{"name": "conv1", "before": 64, "after": 10, "made_by": [0], "read_by": [1]}],
        "frozen": [{"node": "output", "reason": "the model returns it"}],
    },
    "cost": {
        "base": {"parameters": 2_368, "flops": 1_000_000, "step_seconds": 0.2},
        "proxy": {"parameters": 370, "flops": 50_000, "step_seconds": 0.05},
    },
    "ladder": {
        "asked": {"ladder": "paper", "n_trials": 5, "confirm": 4, "trainings": None, "seconds": None},
        "rungs": [
            {"network": "the proxy", "entrants": 5, "price": 0.25, "study": "search"},
            {"network": "the full network", "entrants": 4, "price": 1.0, "study": "confirm"},
        ],
        "customary": 24.0,
        "total": 5.25,
    },
    "search": {
        "seconds": 60.0,
        "epochs": 9,
        "trials": {"complete": 2, "pruned": 1, "failed": 1, "diverged": 1, "interrupted": 0},
        "best": {"trial": 0, "params": {"lr": 0.1}, "score": 0.8},
        "notes": ["hyperband: 1 bracket, one trial in 3 goes on"],
    },
    "confirmation": [
        {"trial": 0, "params": {"lr": 0.1}, "proxy_score": 0.8, "base_score": 0.9, "outcome": "complete", "seconds": 9},
        {
            "trial": 1,
            "params": {"lr": 0.2},
            "proxy_score": 0.7,
            "base_score": 0.95,
            "outcome": "complete",
            "seconds": 9,
        },
        {
            "trial": 2,
            "params": {"lr": 0.3},
            "proxy_score": 0.6,
            "base_score": 0.85,
            "outcome": "complete",
            "seconds": 9,
        },
        {
            "trial": 3,
            "params": {"lr": 1.0},
            "proxy_score": 0.5,
            "base_score": None,
            "outcome": "diverged",
            "seconds": 9,
        },
    ],
    "winner": {"trial": 1, "params": {"lr": 0.2, "optimizer": "sgd"}, "score": 0.95},
    "time": {
        "prune": 1.5,
        "measure": 0.5,
        "search": 60.0,
        "confirm": 28.0,
        "total": 100.0,
        "search_on_base_estimate": 240.0,
        "estimate_basis": "an estimate: 24 full trainings, each as long as the winner's",
    },
    "test": {"accuracy": 0.972},
}


def trial(
    state: TrialState,
    params: dict[str, Any],
    value: float | None = None,
    curve: Iterable[float] = (),
    **attributes: Any,
) -> FrozenTrial:
    """An Optuna trial with the hyperparameters of SPACE."""
    return create_trial(
        state=state,
        value=value,
        params=params,
        distributions={name: SPACE[name] for name in params},
        intermediate_values=dict(enumerate(curve, start=1)),
        user_attrs=attributes,
    )


def four_trials() -> list[FrozenTrial]:
    """Two complete trials, one stopped after its second epoch, one that diverged and one that failed: five in all."""
    return [
        trial(TrialState.COMPLETE, _params(0.1, 0.9, 32, "sgd"), 0.8, [0.5, 0.7, 0.8]),
        trial(TrialState.COMPLETE, _params(0.01, 0.5, 64, "adam"), 0.7, [0.4, 0.6, 0.7]),
        trial(TrialState.PRUNED, _params(0.001, 0.1, 128, "adam"), 0.2, [0.1, 0.2]),
        trial(TrialState.COMPLETE, _params(1.0, 0.99, 16, "sgd"), 0.05, [0.1], outcome="diverged"),
        trial(
            TrialState.FAIL, _params(0.5, 0.2, 16, "sgd"), outcome="failed", message="ZeroDivisionError: <b>oops</b>"
        ),
    ]


def numbered(found: Iterable[FrozenTrial]) -> tuple[Trial, ...]:
    """The trials as ``load_run`` would read them, without the slow way through a database."""
    trials = []
    for number, each in enumerate(found):
        each.number = number
        plain = plain_trial(each)
        assert plain is not None
        trials.append(plain)
    return tuple(trials)


def _params(lr: float, momentum: float, batch_size: int, optimizer: str) -> dict[str, Any]:
    return {"lr": lr, "momentum": momentum, "batch_size": batch_size, "optimizer": optimizer}


def write_run(
    folder: Path,
    result: dict[str, Any],
    trials: Iterable[FrozenTrial] | None = None,
    confirm: Iterable[FrozenTrial] = (),
) -> Path:
    """A run folder with these contents; without studies for trials None."""
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    if trials is not None:
        storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
        for study_name, found in (("search", trials), ("confirm", confirm)):
            study = optuna.create_study(
                study_name=study_name, storage=storage, direction=result.get("direction", "maximize")
            )
            study.add_trials(list(found))
    return folder
