"""The arms of `benchmarks.time_to_quality`: ways to come from a network and its data to hyperparameters.

Two are calls of the library: `ladder` is `prunetune.tune` as it is, `paper` climbs the ladder of that name, of two
rungs, the best three in full. The others are what its users would write without it: plain Optuna around the same train
function. Those at the cost of one of ours begin trials as long as the seconds last that this took in the same seed.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import optuna
import torch
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from torch import nn

import prunetune
from benchmarks.common.reports import PlainReport
from benchmarks.common.reports import train as train_until
from benchmarks.time_to_quality.cases import Preset, example, part
from prunetune import Ladder, Pruning, Rung, Search
from prunetune.data import ImageData

Params: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]

CONFIRM: Final = 3
SUBSET: Final = 5
"""The data subset is a fifth."""
SEED_STRIDE: Final = 100_000
"""Between the seeds of two searches, so that no two trainings of the benchmark share one."""
FINAL: Final = 90_000
"""Where, in a search's seeds, those of the final trainings begin."""
CONFIRMATIONS: Final = 80_000
STEP_BATCH: Final = 128
"""Images in the batch on which the ladder's networks are timed: as many as a training step has."""


class Clock:
    """Seconds since it was made, of this process and of the wall; `now()` in the preset's own."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.start = self._read()

    def _read(self) -> dict[str, float]:
        return {"cpu": time.process_time(), "wall": time.perf_counter()}

    def seconds(self) -> dict[str, float]:
        return {name: value - self.start[name] for name, value in self._read().items()}

    def now(self) -> float:
        return self.seconds()[self.kind]


@dataclass(frozen=True)
class Task:
    """One search: a preset with the data of a seed, the clock that began with it, and what it may spend."""

    preset: Preset
    data: ImageData
    seed: int
    clock: Clock
    budget: float = math.inf
    """Seconds of the preset's clock."""

    def train_seed(self, number: int) -> int:
        return self.seed * SEED_STRIDE + number

    def base(self) -> nn.Module:
        return self.preset.build(self.data)


@dataclass(frozen=True)
class Found:
    """The hyperparameters that a search chose, and what it ran."""

    params: Params
    trials: int
    base_epochs: float
    """Epochs of the base on all training images that the search trained."""
    proxy_epochs: int = 0
    trained: nn.Module | None = None
    """The trained winner, if the training that left it behind chose nothing."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else its row says of the search."""


def train(task: Task, model: nn.Module, params: Params, report: PlainReport, data: ImageData) -> float:
    """The score of a fresh base, trained with `params` until the report ends it or the epochs are over."""
    return train_until(task.preset.job(data), model, params, report)


@dataclass
class PlainSearch:
    """A study of Optuna's on the base, as its tutorials have it."""

    task: Task
    sampler: BaseSampler
    pruner: BasePruner = field(default_factory=NopPruner)
    epochs: int | None = None
    """Of a trial, which end its schedule; the preset's."""
    stop_after: int | None = None
    data: ImageData | None = None
    trained: float = 0.0

    def __post_init__(self) -> None:
        name = str(self.task.seed)  # Hyperband's brackets depend on it
        self.study = optuna.create_study(
            study_name=name, direction="maximize", sampler=self.sampler, pruner=self.pruner
        )

    def run(self, *, trials: int | None = None, reserve: float = 0.0) -> PlainSearch:
        """So many trials; without a number, as many as the task's budget has room for, less `reserve` base epochs."""
        while self._has_room(reserve) if trials is None else len(self.study.trials) < trials:
            self._run_one()
        return self

    def _has_room(self, reserve: float) -> bool:
        """Whether the next trial, if it costs what they cost on average, ends nearer to the budget than beyond it.

        There is always one trial that came to a score.
        """
        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return True
        spent = self.task.clock.now()
        half = spent / len(self.study.trials) / 2
        kept = reserve * spent / self.trained  # seconds, at the pace so far
        return spent + half + kept <= self.task.budget

    def _run_one(self) -> None:
        task, data = self.task, self.data or self.task.data
        trial = self.study.ask()
        params = task.preset.space.suggest(trial)
        seed = task.train_seed(trial.number)
        report = PlainReport(seed, self.epochs or task.preset.epochs, trial, self.stop_after)
        torch.manual_seed(seed)
        try:
            self.study.tell(trial, train(task, task.base(), params, report, data))
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        self.trained += report.epoch * len(data.train_labels) / len(task.data.train_labels)

    def top(self, count: int) -> list[Params]:
        """The hyperparameters of the best complete trials."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = sorted(complete, key=lambda trial: -(trial.value if trial.value is not None else -math.inf))
        return [dict(trial.params) for trial in best[:count]]

    def found(self) -> Found:
        return Found(self.top(1)[0], len(self.study.trials), self.trained)


def hyperband(epochs: int) -> HyperbandPruner:
    """Optuna's with its own factor, from one epoch on."""
    return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


def default(task: Task) -> Found:
    """TPE and Hyperband on the base."""
    return _tpe_hyperband(task).run(trials=task.preset.trials).found()


def few_trials(task: Task) -> Found:
    """The default with a quarter of the trials."""
    return _tpe_hyperband(task).run(trials=task.preset.few_trials).found()


def fewer_trials(task: Task) -> Found:
    """The default with as many trials as there is room for."""
    return _tpe_hyperband(task).run().found()


def subset(task: Task) -> Found:
    """The default on a fifth of the training images, as many trials as there is room for."""
    data = part(task.data, "train", len(task.data.train_labels) // SUBSET, task.seed)
    return _tpe_hyperband(task, data).run().found()


def _tpe_hyperband(task: Task, data: ImageData | None = None) -> PlainSearch:
    return PlainSearch(task, TPESampler(seed=task.seed), hyperband(task.preset.epochs), data=data)


def short(task: Task) -> Found:
    """TPE, every trial a third of the epochs with the whole schedule in them, none stopped."""
    return PlainSearch(task, TPESampler(seed=task.seed), epochs=task.preset.short_epochs).run().found()


def random(task: Task) -> Found:
    """Random configurations, trained to the end."""
    return PlainSearch(task, RandomSampler(seed=task.seed)).run().found()


def halving(task: Task) -> Found:
    """TPE and Optuna's successive halving: one in three goes on after 1, 3, 9 … epochs, no brackets."""
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return PlainSearch(task, TPESampler(seed=task.seed), pruner).run().found()


def one_epoch(task: Task) -> Found:
    """The first epoch of as many trials as there is room for beside three full trainings of the best, which choose."""
    full = task.preset.epochs
    search = PlainSearch(task, TPESampler(seed=task.seed), stop_after=1).run(reserve=CONFIRM * full)
    scores = []
    for number, params in enumerate(search.top(CONFIRM)):
        seed = task.train_seed(CONFIRMATIONS + number)
        torch.manual_seed(seed)
        report = PlainReport(seed, full)
        score = train(task, task.base(), params, report, task.data)
        scores.append((-1.0 if math.isnan(score) else score, -number, params))
        search.trained += report.epoch
    return Found(max(scores, key=lambda each: each[:2])[2], len(search.study.trials), search.trained)


def first_epoch(task: Task) -> Found:
    """The first epoch of as many trials as there is room for; the best of them is trained."""
    return PlainSearch(task, TPESampler(seed=task.seed), stop_after=1).run().found()


def ladder(
    task: Task, climbed: Ladder | None = None, *, optimizer: str = Search.optimizer, transfer: str = Pruning.transfer
) -> Found:
    """`prunetune.tune` as it is: a ladder of rungs, whose last training is the winner's."""
    preset = task.preset
    with tempfile.TemporaryDirectory() as folder:
        result = prunetune.tune(
            task.base,
            preset.job(task.data),
            preset.space,
            example_inputs=example(task.data, STEP_BATCH),
            epochs=preset.epochs,
            run_dir=f"{folder}/run",
            search=Search(direction="maximize", optimizer=optimizer),
            pruning=Pruning(transfer=transfer),
            ladder=climbed,
            seed=task.seed,
        )
        winner = task.base()
        result.load_weights(winner)
    record = result.record
    rungs = [{name: rung[name] for name in ("network", "entrants", "price")} for rung in record["ladder"]["rungs"]]
    finals = record["confirmation"]
    climbed = sum(each["epochs"] or 0 for climb in record.get("climbs", ()) for each in climb["trained"])
    return Found(
        result.params,
        sum(record["search"]["trials"].values()),
        sum(each["epochs"] for each in finals),
        record["search"]["epochs"] + climbed,
        winner if len(finals) == 1 else None,  # of several its own score chose the winner
        {
            "rungs": rungs,
            "predicted_trainings": sum(rung["entrants"] * rung["price"] for rung in rungs),
            "climbs": [_climb(each) for each in record.get("climbs", ())],
        },
    )


def _climb(climb: Mapping[str, Any]) -> dict[str, Any]:
    """A rung between the first and the last: who was there, with which scores, and what was decided by them."""
    there = [{name: each[name] for name in ("trial", "score", "score_below", "control")} for each in climb["trained"]]
    agreement = climb["agreement"] or {}
    said = {name: agreement.get(name) for name in ("spearman", "low", "high", "decision")}
    return {"network": climb["network"], "trained": there, **said}


def paper(task: Task, transfer: str = "mup") -> Found:
    """TPE and Hyperband on the proxy, the best three in full on the base: `prunetune.tune` with the ladder "paper"."""
    preset = task.preset
    with tempfile.TemporaryDirectory() as folder:
        result = prunetune.tune(
            task.base,
            preset.job(task.data),
            preset.space,
            example_inputs=example(task.data),
            epochs=preset.epochs,
            run_dir=f"{folder}/run",
            pruning=preset.asked(transfer),
            search=Search(
                direction="maximize", n_trials=preset.trials, confirm=CONFIRM, optimizer="tpe", trial_pruner="hyperband"
            ),
            ladder="paper",
            seed=task.seed,
        )
    record = result.record
    confirmed = sum(each["epochs"] for each in record["confirmation"])
    return Found(result.params, sum(record["search"]["trials"].values()), confirmed, record["search"]["epochs"])


def paper_identity(task: Task) -> Found:
    """The ladder "paper" with `transfer="identity"`: the proxy trains with the hyperparameters as they are."""
    return paper(task, "identity")


PAPER: Final = "paper"
LADDER: Final = "ladder"


@dataclass(frozen=True)
class Arm:
    """A way to search. `beside`: the arm of ours that it is compared with.

    A `rival` may spend what that took in the same seed, where it is `at_cost`. `leaves_winner`: the search trains its
    winner in full, whose weights are kept, so that no training comes on top.
    """

    search: Callable[[Task], Found]
    beside: str = PAPER
    at_cost: bool = False
    rival: bool = True
    leaves_winner: bool = False

    @property
    def says(self) -> str:
        return (self.search.__doc__ or "").strip().rstrip(".")

    def total(self, row: Row, clock: str) -> float:
        """Seconds of the search, everything in it, and of the winner's training where it is not one of the search's."""
        final = 0.0 if self.leaves_winner else row[f"final_{clock}_seconds"]
        return float(row[f"search_{clock}_seconds"] + final)


def _at_ladders_cost(search: Callable[[Task], Found], *, leaves_winner: bool = False) -> Arm:
    return Arm(search, beside=LADDER, at_cost=True, leaves_winner=leaves_winner)


def _changed(says: str, climbed: Ladder | None = None, **changes: str) -> Arm:
    """The ladder with one thing changed, at about the same cost (the counts are for the scale `cpu`)."""

    def search(task: Task) -> Found:
        return ladder(task, climbed, **changes)

    search.__doc__ = says
    return Arm(search, beside=LADDER, rival=False, leaves_winner=True)


BRIEF: Final = Rung(width=1 / 8, epochs=1 / 9)
SHORT: Final = Rung(width=1 / 4, epochs=1 / 3)
NARROW: Final = Rung(width=1 / 4)
LADDERS: Final[Mapping[str, tuple[str, Ladder]]] = {
    "ladder-no-first-rung": (
        "27 on a quarter of the width and a third of the epochs, 4 on a quarter",
        Ladder(replace(SHORT, trials=27, keep=4), replace(NARROW, keep=1), Rung()),
    ),
    "ladder-no-second-rung": (
        "64 on the first rung, 9 on a quarter of the width",
        Ladder(replace(BRIEF, trials=64, keep=9), replace(NARROW, keep=1), Rung()),
    ),
    "ladder-no-middle-rungs": (
        "240 on the first rung, and the best in full",
        Ladder(replace(BRIEF, trials=240, keep=1), Rung()),
    ),
    "ladder-two-in-full": (
        "40, 8 and 2 on the three rungs, and 2 in full",
        Ladder(replace(BRIEF, trials=40, keep=8), replace(SHORT, keep=2), replace(NARROW, keep=2), Rung()),
    ),
    "ladder-full-width": (
        "20 for one epoch on the full network, and the best in full",
        Ladder(Rung(epochs=1 / 9, trials=20, keep=1), Rung()),
    ),
}
"""Others at about the same cost."""
ABLATIONS: Final[Mapping[str, Arm]] = {
    **{name: _changed(*each) for name, each in LADDERS.items()},
    "ladder-tpe": _changed("the ladder with TPE on its first rung", optimizer="tpe"),
    "ladder-random": _changed("the ladder with random configurations", optimizer="random"),
    "ladder-identity": _changed("the ladder with hyperparameters as they are", transfer="identity"),
}
"""What each part of the ladder is worth."""
ARMS: Final[Mapping[str, Arm]] = {
    "default": Arm(default, rival=False),  # the longest first
    PAPER: Arm(paper, rival=False),
    "paper-identity": Arm(paper_identity, rival=False),
    "quarter-of-the-trials": Arm(few_trials),
    "fewer-epochs": Arm(short, at_cost=True),
    "data-subset": Arm(subset, at_cost=True),
    "one-epoch-top-3": Arm(one_epoch, at_cost=True),
    "successive-halving": Arm(halving, at_cost=True),
    "random": Arm(random, at_cost=True),
    LADDER: Arm(ladder, beside=LADDER, rival=False, leaves_winner=True),
    "fewer-trials@ladder": _at_ladders_cost(fewer_trials, leaves_winner=True),
    "fewer-epochs@ladder": _at_ladders_cost(short),
    "data-subset@ladder": _at_ladders_cost(subset),
    "one-epoch@ladder": _at_ladders_cost(first_epoch),
    "successive-halving@ladder": _at_ladders_cost(halving, leaves_winner=True),
    "random@ladder": _at_ladders_cost(random, leaves_winner=True),
    **ABLATIONS,
}
