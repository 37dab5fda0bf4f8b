"""Makes what a version leaves: run folders, studies, plans, trial sequences.

Run it once with the version whose files are wanted, and commit what it writes::

    python tests/compatibility/make.py tests/compatibility/format1

The host's name and the folders are replaced, so that nothing of the machine that made them is in the files.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import prunetune
import prunetune.errors
from prunetune.backends import optimizers
from prunetune.backends.space import Categorical, Float, Int, SearchSpace
from prunetune.backends.study import heartbeat as lives
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study
from prunetune.cli.config import read_config
from prunetune.cli.launch import launch, launch_check

HERE = Path(__file__).parent
SPACE = {"lr": Float(1e-3, 1.0, log=True), "steps": Int(1, 3)}
INPUTS = torch.zeros(2, 6)
PRUNING = prunetune.Pruning(scorer="magnitude", ratio=0.5)
SEARCH = prunetune.Search(n_trials=6, confirm=2, optimizer="optuna:cmaes", trial_pruner="asha", direction="maximize")
STOPPED_AFTER = 3


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
    """Known without training: the better, the nearer the learning rate is to 0.1 and the wider the network is."""
    score = 0.0
    for epoch in range(1, report.epochs + 1):
        score = float(model[0].weight.shape[0]) - abs(params["lr"] - 0.1) - params["steps"] / 100 + epoch / 10
        report(score, epoch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(params["lr"])
    return score


def tune(folder: Path, train: Any = train, **options: Any) -> prunetune.TuneResult:
    """The run whose folder is kept; called again it goes on with it."""
    given: dict[str, Any] = {"example_inputs": INPUTS, "epochs": 3, "pruning": PRUNING, "search": SEARCH}
    return prunetune.tune(net, train, SPACE, run_dir=folder, **{**given, **options})


def stopping() -> Any:
    """The train function, until Ctrl-C in the fourth trial."""
    calls = 0

    def stopped(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        nonlocal calls
        calls += 1
        if calls > STOPPED_AFTER:
            raise KeyboardInterrupt
        return train(model, params, report)

    return stopped


def compare(folder: Path, **options: Any) -> prunetune.CompareResult:
    comparison = prunetune.Comparison(
        scorers=("magnitude",), sizes=(0.3,), transfers=("mup",), configurations=4, seeds=1, truth_seeds=1, confirm=1
    )  # "mup" was the default then, and a comparison trains whatever is new in it
    return prunetune.compare(
        net, train, SPACE, example_inputs=INPUTS, epochs=2, run_dir=folder, comparison=comparison, direction="maximize",
        **options,
    )  # fmt: skip


MIXED = SearchSpace({"rate": Float(1e-3, 1.0, log=True), "steps": Int(1, 9), "kind": Categorical(["a", "b", "c"])})
NUMBERS = SearchSpace({"rate": Float(1e-3, 1.0, log=True), "steps": Int(1, 9), "decay": Float(0.0, 1.0)})


def sequence(optimizer: str, space: SearchSpace, trials: int = 12) -> list[dict[str, Any]]:
    """What an optimizer asks for with seed 0 where the score is a known function of it."""

    def objective(params: dict[str, Any], report: Any) -> float:
        known = sum(value for value in params.values() if isinstance(value, float))
        return float(known - params["steps"] / 10 + (params.get("kind") == "b"))

    settings = StudySettings(space, 1, "maximize", optimizer, "none", 0)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_study(f"sqlite:///{folder}/study.db", "sequence", settings) as study,
    ):
        run_trials(study, objective, settings, n_trials=trials)
        return [trial.params for trial in study.get_trials(deepcopy=False)]


def main(target: Path) -> None:
    socket.gethostname = lambda: "a-host"
    lives._space = lambda: "another boot"
    runs = Path("/srv/prunetune-runs")  # the folder's name is in the study
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    tune(runs / "finished")
    try:
        tune(runs / "stopped", stopping())
    except KeyboardInterrupt:
        print("stopped, as it should be")
    compare(runs / "compared")
    config = read_config(HERE / "run.toml")
    launch_check(config, configurations=4, epochs=1)
    launch(config)
    for folder in runs.iterdir():
        keep(folder, target / folder.name)
    names = [name for name in optimizers.names() if name not in ("random", "tpe", "cma-es", "bo")]
    sequences = {}
    for name in names:
        for label, space in (("numbers", NUMBERS), ("mixed", MIXED)):
            print(name, label, flush=True)
            try:
                sequences[f"{name} {label}"] = sequence(name, space)
            except prunetune.errors.PrunetuneError as error:
                sequences[f"{name} {label}"] = type(error).__name__
    (target / "sequences.json").write_text(json.dumps(sequences, indent=1) + "\n")


def keep(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    left_out = ("report.html", "compare.html", "*.lock", ".lock")
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*left_out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
