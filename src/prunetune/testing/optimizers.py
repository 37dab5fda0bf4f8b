"""What holds for every optimizer, whichever way a score is good."""

from __future__ import annotations

import contextlib
import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from prunetune._utils.checks import Direction
from prunetune.backends import Categorical, Float, Int, SearchSpace, optimizers, trial_pruners
from prunetune.backends.samplers.seeded import sampler
from prunetune.backends.study.attributes import OWNER
from prunetune.backends.study.heartbeat import this_process
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, finished_trials, open_study, outcome
from prunetune.backends.study.trial import Report
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
N_TRIALS: Final = 12
"""More than the ten that TPE, for one, draws at random."""


def optimizer_contract(*names: str) -> type[OptimizerContract]:
    """A class of tests for optimizers by name; pytest finds it under a name that begins with Test."""
    made = type("OptimizerContract", (OptimizerContract,), {})
    marked: type[OptimizerContract] = pytest.mark.parametrize("optimizer", names)(made)
    return marked


def goodness(params: dict[str, Any]) -> float:
    """Best at small x, large n, c = "b" and y = 0.3."""
    return float(-((params["y"] - 0.3) ** 2) - params["x"] - (params["c"] == "a") + params["n"] / 100)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
class OptimizerContract:
    """The tests, each of the optimizer `optimizer`; `optimizer_contract` makes a class of them for names of one's own.

    A study in memory stands for one in a file wherever the file makes no difference.
    """

    def test_the_same_seed_gives_the_same_trials(self, optimizer: str, direction: Direction) -> None:
        """And another seed others."""
        points = reference(optimizer, direction)
        assert run(settings(optimizer, direction)) == points
        assert run(settings(optimizer, direction, seed=4), n_trials=5) != points[:5]

    def test_a_search_that_is_resumed_goes_on_as_it_would_have(self, optimizer: str, direction: Direction) -> None:
        """Stopped between two trials or killed during one, and opened anew as another process would.

        A score is searched for in a file, and a loss in memory, which is quicker.
        """
        same = settings(optimizer, direction)
        memory = Path("/dev/shm")  # where there is one, there is no disk to wait for
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            storage = f"sqlite:///{folder}/study.db" if direction == "maximize" else InMemoryStorage()
            for stop, killed in ((1, True), (4, False), (11, True), (N_TRIALS, False)):
                with opened(storage, same) as study:
                    run_trials(study, towards(direction), same, n_trials=stop)
                    points = [trial.params for trial in finished_trials(study)]
                    if killed:
                        leave_running(study, same)
        assert points == reference(optimizer, direction)

    def test_the_direction_is_that_of_the_search(self, optimizer: str, direction: Direction) -> None:
        """The same goodness, as a score or as a loss, leads to the same trials."""
        assert reference(optimizer, direction) == reference(optimizer, "maximize")

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

        trials = search(settings(optimizer, direction), objective, n_trials=N_TRIALS + 3)
        assert [outcome(trial) for trial in trials[:8]] == [
            *("diverged", "failed", "pruned", "complete", "complete"),
            *("diverged", "failed", "pruned"),
        ]
        assert all(outcome(trial) == "complete" for trial in trials[8:])
        assert len({str(trial.params) for trial in trials}) == len(trials) == N_TRIALS + 3

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

    def test_trials_in_parallel_are_told_in_any_order(self, optimizer: str, direction: Direction) -> None:
        """Several are asked for at a time and told backwards, and the first one never: no point comes twice."""
        twice = []
        for _ in range(2):
            with quiet():
                study = new_study(settings(optimizer, direction))
                asked = []
                for size in (4, 4, 3, 2):
                    batch = [study.ask() for _ in range(size)]
                    for trial in batch:  # all of which have begun before the first is sampled
                        SPACE.suggest(trial)
                    asked += batch
                    for trial in reversed(batch):
                        if trial.number:
                            study.tell(trial, towards(direction)(trial.params))
            twice.append([trial.params for trial in asked])
            for trial in asked:
                for name, value in trial.params.items():
                    within(name, value, SPACE)
        assert twice[0] == twice[1]
        assert len({str(point) for point in twice[0]}) == len(asked)

    def test_it_works_in_threads(self, optimizer: str, direction: Direction) -> None:
        """Of a study that the user runs with `n_jobs`."""
        with quiet():
            study = new_study(settings(optimizer, direction))
            study.optimize(lambda trial: towards(direction)(SPACE.suggest(trial)), N_TRIALS, n_jobs=3)
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * N_TRIALS
        # A thread that was overtaken by two others between its number and its point may get the point of one of them.
        assert len({str(trial.params) for trial in study.trials}) >= N_TRIALS - 1

    def test_hyperparameters_may_depend_on_others(self, optimizer: str, direction: Direction) -> None:
        """Of a study whose objective asks for y only where c is "b"."""

        def objective(trial: optuna.Trial) -> float:
            params = {name: SPACE[name].suggest(trial, name) for name in ("x", "n", "c")}
            params["y"] = SPACE["y"].suggest(trial, "y") if params["c"] == "b" else 0.0
            return towards(direction)(params)

        with quiet():
            study = new_study(settings(optimizer, direction))
            study.optimize(objective, N_TRIALS)
        for trial in study.trials:
            assert ("y" in trial.params) == (trial.params["c"] == "b")
            for name, value in trial.params.items():
                within(name, value, SPACE)


def settings(optimizer: str, direction: Direction, **options: Any) -> StudySettings:
    """Those of a search of three epochs a trial."""
    base = StudySettings(SPACE, epochs=3, direction=direction, optimizer=optimizer, trial_pruner="none")
    return replace(base, **options)


def towards(direction: Direction) -> Callable[..., float]:
    """`goodness` as a score, or its negative as a loss."""
    sign = 1.0 if direction == "maximize" else -1.0
    return lambda params, report=None: sign * goodness(params)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna logs warnings only."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def opened(storage: str | InMemoryStorage, settings: StudySettings) -> Iterator[optuna.Study]:
    """As `open_study`, also in memory."""
    if isinstance(storage, str):
        with open_study(storage, "search", settings) as study:
            yield study
        return
    with quiet():
        yield new_study(settings, storage)


def leave_running(study: optuna.Study, settings: StudySettings) -> None:
    """Begin a trial as a process would that is killed during it."""
    trial = study.ask(settings.space.to_optuna())
    trial.report(0.0, 1)
    gone = {**this_process(), "started": "another time"}
    study._storage.set_trial_system_attr(trial._trial_id, OWNER, gone)


def new_study(settings: StudySettings, storage: InMemoryStorage | None = None) -> optuna.Study:
    """A study in memory, or the one that is there."""
    return optuna.create_study(
        storage=storage or InMemoryStorage(),
        load_if_exists=True,
        study_name="search",
        direction=settings.direction,
        sampler=sampler(settings.optimizer, settings.seed),
        pruner=build(trial_pruners, settings.trial_pruner, optuna.pruners.BasePruner, settings.epochs),
    )


def search(
    settings: StudySettings,
    objective: Callable[[dict[str, Any], Report], float],
    queue: Sequence[dict[str, Any]] = (),
    n_trials: int = N_TRIALS,
) -> list[FrozenTrial]:
    """All trials of a search in memory."""
    with quiet():
        study = new_study(settings)
        for point in queue:
            study.enqueue_trial(point)
        run_trials(study, objective, settings, n_trials=n_trials)
        return study.trials


def run(
    settings: StudySettings,
    objective: Callable[[dict[str, Any], Report], float] | None = None,
    queue: Sequence[dict[str, Any]] = (),
    n_trials: int = N_TRIALS,
) -> Points:
    """The hyperparameters of all trials of a search in memory."""
    trials = search(settings, objective or towards(settings.direction), queue, n_trials)
    return [trial.params for trial in trials]


def reference(optimizer: str, direction: Direction) -> Points:
    """Those of the plain search that several tests compare with, run once."""
    return _reference(optimizers[optimizer], optimizer, direction)


@functools.cache
def _reference(factory: object, optimizer: str, direction: Direction) -> Points:
    return run(settings(optimizer, direction))


def within(name: str, value: object, space: SearchSpace) -> None:
    """Fail unless the value is one of those that the space allows for that name."""
    distribution = space[name]
    if isinstance(distribution, Categorical):
        assert value in distribution.choices
        return
    assert type(value) is (int if isinstance(distribution, Int) else float)  # numpy's are no JSON
    assert distribution.low <= value <= distribution.high, f"{name} = {value} is out of {distribution}"
