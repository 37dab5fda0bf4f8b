"""Plain Optuna: its own sampler on its own journal, with an objective that takes no time."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.overhead.cases import LR, MOMENTUM, WEIGHT_DECAY, by_trial, processor_seconds, score

SAMPLERS = {"random": optuna.samplers.RandomSampler, "optuna:cmaes": optuna.samplers.CmaEsSampler}


def searched(optimizer: str, trials: int, folder: Path) -> dict[str, Any]:
    """A study of so many trials."""
    ends: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        params = {
            "lr": trial.suggest_float("lr", *LR, log=True),
            "weight_decay": trial.suggest_float("weight_decay", *WEIGHT_DECAY, log=True),
            "momentum": trial.suggest_float("momentum", *MOMENTUM),
        }
        trial.report(score(params), 1)
        return score(params)

    storage = JournalStorage(JournalFileBackend(str(folder / "journal")))
    study = optuna.create_study(storage=storage, sampler=SAMPLERS[optimizer](seed=0), direction="maximize")
    start = processor_seconds()
    study.optimize(objective, trials, callbacks=[lambda study, trial: ends.append(processor_seconds())])
    return {"network": "-", "optimizer": optimizer, "trials": trials, **by_trial([start, *ends])}


def main(optimizer: str, trials: str) -> None:
    """Print a row."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(searched(optimizer, int(trials), Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
