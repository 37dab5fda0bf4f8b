"""A run whose workers an executor runs, and whose trials sleep."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import torch
from optuna.trial import FrozenTrial
from torch import nn

import prunetune
from prunetune.backends.study.attributes import OWNER
from prunetune.backends.study.storage import connected
from prunetune.record.folder import study_url

SPACE: Final = {"lr": prunetune.Float(1e-3, 1.0, log=True)}
LIMIT: Final = 300.0


@contextlib.contextmanager
def processes(count: int, folder: Path) -> Iterator[Any]:
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextlib.contextmanager
def dask(count: int, folder: Path) -> Iterator[Any]:
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None, local_directory=folder) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def submitit(count: int, folder: Path) -> Iterator[Any]:
    from submitit import AutoExecutor

    yield AutoExecutor(folder, cluster="local")


@contextlib.contextmanager
def ray(count: int, folder: Path) -> Iterator[Any]:
    import ray as library

    from prunetune.interop.ray import RayExecutor

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's name; its 15 is for ever on a busy machine
    library.init(num_cpus=count, include_dashboard=False, log_to_driver=False)
    try:
        yield RayExecutor(num_cpus=1)
    finally:
        library.shutdown()


EXECUTORS: Final[dict[str, Callable[[int, Path], contextlib.AbstractContextManager[Any]]]] = {
    "processes": processes,
    "dask": dask,
    "submitit": submitit,
    "ray": ray,
}


def trials_of(name: str, count: int, seconds: float, each: int, folder: Path) -> list[FrozenTrial]:
    """The trials of a search of `each` a worker, with so many workers; none is begun before all workers are there."""
    meeting = folder / "meeting"
    meeting.mkdir()

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))

    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:

        (meeting / str(os.getpid())).touch()
        latest = time.monotonic() + LIMIT
        while len(list(meeting.iterdir())) < count and time.monotonic() < latest:
            time.sleep(0.01)
        report.note("slept_from", time.time())
        time.sleep(seconds)
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        report(params["lr"], report.epochs)
        return float(params["lr"])

    ladder = prunetune.Ladder(prunetune.Rung(1 / 2, trials=each * count, keep=1), prunetune.Rung())
    with EXECUTORS[name](count, folder / "executor") as workers:
        prunetune.tune(
            net,
            train,
            SPACE,
            example_inputs=torch.zeros(2, 6),
            epochs=1,
            ladder=ladder,
            search=prunetune.Search(direction="maximize", optimizer="random", trial_pruner="none"),
            run_dir=folder / "run",
            energy=False,
            observer=prunetune.silent,
            workers=workers,
            n_workers=count,
        )
    with connected(study_url(folder / "run")) as storage:
        found: list[FrozenTrial] = storage.get_all_trials(storage.get_study_id_from_name("search"))
    return found


def pace(trials: list[FrozenTrial]) -> float:
    """Trials a second, from the moment when all workers were there to the last trial's end."""
    ends = [trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete is not None]
    return len(trials) / (max(ends) - min(trial.user_attrs["slept_from"] for trial in trials))


def workers_of(trials: list[FrozenTrial]) -> int:
    return len({trial.system_attrs[OWNER]["pid"] for trial in trials})
