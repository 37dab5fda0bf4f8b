"""What holds for every optimizer, whichever way a score is good."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from prunetune.backends import Categorical, Float, Int, SearchSpace, trial_pruners
from prunetune.backends.loop import run_trials
from prunetune.backends.seeded import sampler
from prunetune.backends.study import Direction, StudySettings, open_study, outcome
from prunetune.backends.trial import Report
from prunetune.registry import build

Points: TypeAlias = list[dict[str, Any]]

SPACE: Final = SearchSpace(
    {"x": Float(1e-4, 1.0, log=True), "n": Int(1, 50), "c": Categorical(["a", "b"]), "y": Float(-1.0, 1.0)}
)
CORNERS: Final = SearchSpace(
    {
        "tiny": Float(1e-12, 1e-9, log=True),
        "wide": Float(-1e6, 1e6),
        "powers": Int(1, 2**20, log=True),
        "either": Int(-1, 0),
        "mixed": Categorical([None, True, 2, 3.5, "text"]),
        "fixed": Categorical(["only"]),
    }
)
N_TRIALS: Final = 16
"""More than the ten that TPE, for one, draws at random."""


def optimizer_contract(*names: str) -> type[OptimizerContract]:
    """A class of tests for optimizers by name; pytest finds it under a name that begins with Test."""
    made = type("OptimizerContract", (OptimizerContract,), {})
    marked: type[OptimizerContract] = pytest.mark.parametrize("optimizer", names)(made)
    return marked


def goodness(params: dict[str, Any], report: Report) -> float:
    """Best at small x, large n, c = "b" and y = 0.3."""
    return float(-((params["y"] - 0.3) ** 2) - params["x"] - (params["c"] == "a") + params["n"] / 100)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
class OptimizerContract:
    """The tests, each of the optimizer `optimizer`; `optimizer_contract` makes a class of them for names of one's own.

    A study in memory stands for one in a file wherever the file makes no difference.
    """

    def test_the_same_seed_gives_the_same_trials(self, optimizer: str, direction: Direction) -> None:
        """And another seed others."""
        points = [run(settings(optimizer, direction, seed=seed)) for seed in (3, 3, 4)]
        assert points[0] == points[1]
        assert points[0][:5] != points[2][:5]

    def test_a_search_that_is_resumed_goes_on_as_it_would_have(self, optimizer: str, direction: Direction) -> None:
        """Stopped and opened anew, in a file, as another process would."""
        same = settings(optimizer, direction)
        memory = Path("/dev/shm")  # where there is one, there is no disk to wait for
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            for stop in (1, 4, 13, N_TRIALS):
                with open_study(f"sqlite:///{folder}/study.db", "search", same) as study:
                    run_trials(study, towards(direction), same, n_trials=stop)
                    points = [trial.params for trial in study.trials]
        assert points == run(same)

    def test_the_direction_is_that_of_the_search(self, optimizer: str, direction: Direction) -> None:
        """The same goodness, as a score or as a loss, leads to the same trials."""
        assert run(settings(optimizer, direction)) == run(settings(optimizer, "maximize"))

    @pytest.mark.parametrize("space", [SPACE, CORNERS], ids=["usual", "corners"])
    def test_it_stays_in_the_space(self, optimizer: str, direction: Direction, space: SearchSpace) -> None:
        """Values lie in their ranges and are of their types, and no point comes twice."""
        points = run(settings(optimizer, direction, space=space), lambda params, report: float(report.number % 3))
        assert len({str(point) for point in points}) == N_TRIALS
        for point in points:
            assert list(point) == list(space)
            for name, value in space.plain(point).items():
                within(name, value, space)

    def test_trials_that_fail_are_stopped_or_diverge(self, optimizer: str, direction: Direction) -> None:
        """The search goes on to its end, whatever became of the first trials."""

        def objective(params: dict[str, Any], report: Report) -> float:
            if report.number in (0, 5):
                return math.nan
            if report.number in (1, 6):
                raise ValueError("out of memory")
            report(1.0, 1)
            if report.number in (2, 7):
                raise optuna.TrialPruned
            return towards(direction)(params, report)

        trials = search(settings(optimizer, direction), objective)
        assert [outcome(trial) for trial in trials[:8]] == [
            *("diverged", "failed", "pruned", "complete", "complete"),
            *("diverged", "failed", "pruned"),
        ]
        assert all(outcome(trial) == "complete" for trial in trials[8:])
        assert len({str(trial.params) for trial in trials}) == len(trials) == N_TRIALS

    def test_it_works_beside_hyperband(self, optimizer: str, direction: Direction) -> None:
        """Which shows an optimizer the trials of one bracket only, as a study with fewer attributes."""

        def objective(params: dict[str, Any], report: Report) -> float:
            for epoch in range(1, report.epochs + 1):
                report(towards(direction)(params, report), epoch)
            return towards(direction)(params, report)

        trials = search(settings(optimizer, direction, trial_pruner="hyperband"), objective)
        assert len(trials) == N_TRIALS
        assert {outcome(trial) for trial in trials} == {"complete", "pruned"}

    def test_points_of_the_users_come_first(self, optimizer: str, direction: Direction) -> None:
        """Those that were put into the queue, given in full or in part."""
        full = {"x": 0.5, "n": 7, "c": "b", "y": 0.25}
        points = run(settings(optimizer, direction), queue=[full, {"n": 9}])
        assert points[0] == full
        assert points[1]["n"] == 9
        assert len(points) == N_TRIALS
        for name, value in points[1].items():
            within(name, value, SPACE)


def settings(optimizer: str, direction: Direction, **options: Any) -> StudySettings:
    """Those of a search of three epochs a trial."""
    base = StudySettings(SPACE, epochs=3, direction=direction, optimizer=optimizer, trial_pruner="none")
    return replace(base, **options)


def towards(direction: Direction) -> Callable[[dict[str, Any], Report], float]:
    """`goodness` as a score, or its negative as a loss."""
    sign = 1.0 if direction == "maximize" else -1.0
    return lambda params, report: sign * goodness(params, report)


def search(
    settings: StudySettings,
    objective: Callable[[dict[str, Any], Report], float],
    queue: Sequence[dict[str, Any]] = (),
) -> list[FrozenTrial]:
    """All trials of a search in memory."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=InMemoryStorage(),
            study_name="search",
            direction=settings.direction,
            sampler=sampler(settings.optimizer, settings.seed),
            pruner=build(trial_pruners, settings.trial_pruner, optuna.pruners.BasePruner, settings.epochs),
        )
        for point in queue:
            study.enqueue_trial(point)
        run_trials(study, objective, settings, n_trials=N_TRIALS)
        return study.trials
    finally:
        optuna.logging.set_verbosity(before)


def run(
    settings: StudySettings,
    objective: Callable[[dict[str, Any], Report], float] | None = None,
    queue: Sequence[dict[str, Any]] = (),
) -> Points:
    """The hyperparameters of all trials of a search in memory."""
    return [trial.params for trial in search(settings, objective or towards(settings.direction), queue)]


def within(name: str, value: object, space: SearchSpace) -> None:
    """Fail unless the value is one of those that the space allows for that name."""
    distribution = space[name]
    if isinstance(distribution, Categorical):
        assert value in distribution.choices
        return
    assert isinstance(value, int if isinstance(distribution, Int) else float)
    assert distribution.low <= value <= distribution.high, f"{name} = {value} is out of {distribution}"
