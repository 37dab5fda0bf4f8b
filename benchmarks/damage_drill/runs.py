"""Run folders of a tiny network, each damaged, and what every command makes of it."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import random
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from rich.console import Console
from torch import nn

import prunetune.engine
from benchmarks.damage_drill.cases import damage
from prunetune import Float, Int, Pruning, Search
from prunetune.backends.study import loop
from prunetune.backends.study.heartbeat import Heartbeat
from prunetune.backends.study.retrying_storage import PatientStorage
from prunetune.backends.study.trial import Report
from prunetune.checking.proxy_check import check
from prunetune.cli.config import parse_config
from prunetune.cli.launch import keep_config, search_of
from prunetune.console.summary import print_check, print_summary
from prunetune.errors import PrunetuneError
from prunetune.events import Event, Observer, TrialStarted, silent
from prunetune.record.folder import study_url
from prunetune.report import write_report
from prunetune.tuning.tuner import TuneResult, tune
from prunetune.tuning.worker import work

TRIALS: Final = 4
STOPPED_AFTER: Final = 2
CLIMBING: Final = "climbing"
STEPS: Final = {"1.0": 1.0, "0.5": 0.4, "0.25": 0.2, "0.125": 0.1}
"""Seconds by the share of the width."""
BUDGET: Final = 3
"""Full trainings: with four trials on the first rung it buys a rung between and the last."""
SECONDS: Final = 120  # a whole run takes some 20 s on a busy machine; longer only what waits for what never comes
SPACE: Final = {"lr": Float(1e-3, 1.0, log=True), "steps": Int(1, 3)}
JOB: Final = {
    "model": {"name": "resnet8"},
    "data": {"name": "digits", "image_size": 8},
    "search": {"n_trials": TRIALS, "epochs": 2},
}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """The score is the learning rate and the width: no training decides it."""
    score = params["lr"] + next(model.parameters()).shape[0]
    for epoch in range(1, report.epochs + 1):
        report(score, epoch)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    return float(score)


def arguments(folder: Path, more: int = 0, observer: Observer = silent) -> dict[str, Any]:
    """Those of ``tune`` for the run in a folder of that name, made longer by so much."""
    common = {"optimizer": "random", "trial_pruner": "none", "direction": "maximize"}
    asked: dict[str, Any] = {
        "pruning": Pruning(scorer="magnitude", ratio=0.5),
        "search": Search(n_trials=TRIALS + more, confirm=2, **common),
    }
    if folder.name == CLIMBING:
        asked = {"budget": BUDGET + more, "search": Search(n_trials=TRIALS, **common)}
    return {
        "space": SPACE,
        "example_inputs": torch.zeros(2, 6),
        "epochs": 2,
        "run_dir": folder,
        "observer": observer,
        **asked,
    }


def go_on(folder: Path) -> None:
    _judge(folder, tune(net, train, **arguments(folder)))


def make_longer(folder: Path) -> None:
    _judge(folder, tune(net, train, **arguments(folder, 1)))


def _judge(folder: Path, result: TuneResult) -> None:
    if not result.already_finished:
        assert math.isclose(result.score, result.params["lr"] + 16), f"{result.params} has the score {result.score}"
    result.load_weights(net())
    print_summary(Console(file=io.StringIO()), folder)


def check_again(folder: Path) -> None:
    asked = {name: given for name, given in arguments(folder).items() if name != "budget"}
    check(net, train, **asked, configurations=4)
    print_check(Console(file=io.StringIO()), folder)


def join(folder: Path) -> None:
    search_of(folder, None, None)
    work(net, train, study_url(folder), study=folder.name, wait=0.1, observer=silent)


def configure_again(folder: Path) -> None:
    keep_config(parse_config({**JOB, "run": {"folder": str(folder)}}))


COMMANDS: Final[dict[str, Callable[[Path], object]]] = {
    "report": write_report,
    "worker": join,
    "check": check_again,
    "configure": configure_again,
    "run": go_on,
    "longer": make_longer,
}


def prepare(parent: Path) -> list[Path]:
    """A finished run, one that was stopped, and one that was stopped on the last rung of its ladder.

    All were checked, and have a configuration.
    """
    finished, stopped, climbing = (parent / name for name in ("finished", "stopped", CLIMBING))
    for folder in (finished, stopped, climbing):
        configure_again(folder)
        check_again(folder)
    go_on(finished)
    for folder, phase, number in ((stopped, "search", STOPPED_AFTER), (climbing, "train", 0)):
        with contextlib.suppress(KeyboardInterrupt):
            tune(net, train, **arguments(folder, observer=functools.partial(_stop, phase, number)))
    return [finished, stopped, climbing]


def _stop(phase: str, number: int, event: Event) -> None:
    if isinstance(event, TrialStarted) and (event.phase, event.number) == (phase, number):
        raise KeyboardInterrupt


# What is damaged


# What becomes of it


@dataclass(frozen=True)
class Failure:
    """A command that neither did its work nor said why not."""

    seed: int
    damage: str
    command: str
    error: str


def try_all(originals: list[Path], seed: int, counts: Counter[str]) -> list[Failure]:
    """Damage a copy of one of the folders, run every command on copies of that; what failed without a sentence."""
    rng = random.Random(seed)
    failures = []
    with tempfile.TemporaryDirectory() as name:
        original = rng.choice(originals)
        damaged = Path(name) / "damaged" / original.name
        shutil.copytree(original, damaged)
        said = damage(damaged, rng)
        for command, do in COMMANDS.items():
            copy = Path(name) / command / original.name
            shutil.copytree(damaged, copy)
            try:
                with _within(SECONDS):
                    do(copy)
                counts["done"] += 1
            except PrunetuneError as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    failures.append(Failure(seed, said, command, f"more than a sentence: {error}"))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                at = traceback.extract_tb(error.__traceback__)[-1]
                ours = [each for each in traceback.extract_tb(error.__traceback__) if "prunetune" in each.filename]
                places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in (at, *reversed(ours[-4:])))
                failures.append(Failure(seed, said, command, f"{type(error).__name__}: {error} at {places}"))
    return failures


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"it went on for {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, for what is raised in a finaliser is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Nothing is timed, and nothing is waited for that may come back: here it does not."""
    steps = mock.patch.object(
        prunetune.engine, "step_time", lambda models, _, **__: {name: STEPS.get(name, 0.5) for name in models}
    )
    patience = mock.patch.object(PatientStorage, "_patience_now", return_value=0.2)
    heartbeat = mock.patch.dict(loop.run_trials.__kwdefaults__, {"heartbeat": Heartbeat(0.05, 0.3)})
    with steps, patience, heartbeat, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(
    mutations: int, *, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Failure], Counter[str]]:
    """Do the drill; what failed, and how often commands did their work and were refused."""
    failures: list[Failure] = []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, quick():
        originals = prepare(Path(name))
        for number in range(seed, seed + mutations):
            for failure in try_all(originals, number, counts):
                say(f"{failure.seed} {failure.damage} | {failure.command}: {failure.error}")
                failures.append(failure)
    return failures, counts
