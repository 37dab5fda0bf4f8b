"""What a search takes besides its trainings, in processor seconds; each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.overhead.cases import LR, MOMENTUM, NETWORKS, WEIGHT_DECAY, by_trial, processor_seconds, score
from prunetune import Float, Pruning, Report, Search, tune
from prunetune.events import Event, PhaseEnded, PhaseStarted, TrialEnded

Row = dict[str, Any]


def alone(module: str, *arguments: object, checkout: Path | None = None) -> Row:
    """The row that a module of this folder prints in its own process, with the code of `checkout` if there is one."""
    paths = [*([str(checkout / "src")] if checkout else []), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    row: Row = json.loads(done.stdout)
    return row


def tuned(network: str, optimizer: str, trials: int, folder: Path) -> Row:
    """A whole `tune` with a train function that takes no time."""
    build, inputs = NETWORKS[network]
    marks: dict[tuple[str, str], float] = {}
    ends: list[float] = []

    def observe(event: Event) -> None:
        if isinstance(event, PhaseStarted | PhaseEnded):
            marks[event.phase, type(event).__name__] = processor_seconds()
        elif isinstance(event, TrialEnded) and event.phase == "search":
            ends.append(processor_seconds())

    def took(phase: str) -> float:
        return marks[phase, "PhaseEnded"] - marks[phase, "PhaseStarted"]

    start = processor_seconds()
    result = tune(
        build,
        train,
        {"lr": Float(*LR, log=True), "weight_decay": Float(*WEIGHT_DECAY, log=True), "momentum": Float(*MOMENTUM)},
        example_inputs=inputs,
        epochs=1,
        run_dir=folder / "run",
        pruning=Pruning(ratio=0.25),
        search=Search(direction="maximize", n_trials=trials, confirm=1, optimizer=optimizer, trial_pruner="none"),
        observer=observe,
        energy=False,
    )
    whole = processor_seconds() - start
    return {
        "network": network,
        "optimizer": optimizer,
        "trials": trials,
        **by_trial([marks["search", "PhaseStarted"], *ends]),
        "fixed s": whole - took("search") - took("report"),
        "report s": took("report"),
        "report MB": (result.run_dir / "report.html").stat().st_size / 1e6,
    }


def train(model: object, params: dict[str, Any], report: Report) -> float:
    """Nothing is trained."""
    value = score(params) + 0 * params["weight_decay"]
    report(value, 1)
    return value


def main(network: str, optimizer: str, trials: str) -> None:
    """Print a row."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(tuned(network, optimizer, int(trials), Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
