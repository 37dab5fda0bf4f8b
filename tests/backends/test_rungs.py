"""The arithmetic of successive halving beside Optuna's own trial pruners, and what users are told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from prunetune.backends import Categorical, Float, SearchSpace, trial_pruners
from prunetune.backends.pruners.rungs import Rungs
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study
from prunetune.events import Event, PhaseStarted

CHOICES = {"norm": Categorical([True, False]), "act": Categorical(["relu", "gelu"]), "one": Categorical([1])}
WITH_CHOICES = SearchSpace({"x": Float(0, 1), **CHOICES})


def test_expected_epochs_by_hand() -> None:
    """Of three trials that come to a rung the first goes on, the second if it is better, the third if it is best."""
    rungs = Rungs(3, ((1,),), 4, (1.0,))
    assert rungs.expected_complete(3) == pytest.approx(1 + 1 / 2 + 1 / 3)
    assert rungs.expected_epochs(3) == pytest.approx(1 + (1 + 1 / 2 + 1 / 3) / 3 * 3)
    assert rungs.expected_complete(1) == 1
    assert Rungs(3, ((1,), ()), 2, (0.5, 0.5)).expected_complete(2) == pytest.approx(2)  # one a bracket
    assert Rungs(3, ((),), 7, (1.0,)).expected_epochs(50) == 7


@pytest.mark.parametrize("name", ["hyperband", "asha"])
@pytest.mark.parametrize(("epochs", "n_trials"), [(9, 30), (27, 12)])
def test_expected_epochs_are_those_of_optunas_trial_pruners(name: str, epochs: int, n_trials: int) -> None:
    """The mean over many studies whose scores are random; within four standard errors, or 2 %."""
    drawn = np.random.default_rng(0)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    means, complete = [], []
    for number in range(60):
        pruner = trial_pruners[name](epochs)
        storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(pruner=pruner, study_name=str(number), storage=storage)
        trained = []
        for _ in range(n_trials):
            trial, epoch = study.ask(), 0
            for epoch in range(1, epochs + 1):
                trial.report(float(drawn.random()), epoch)
                if epoch < epochs and trial.should_prune():
                    break
            study.tell(trial, 0.0)
            trained.append(epoch)
        means.append(np.mean(trained))
        complete.append(trained.count(epochs))
    optuna.logging.set_verbosity(before)
    rungs = pruner.rungs  # type: ignore[attr-defined]
    for seen, expected in ((means, rungs.expected_epochs(n_trials)), (complete, rungs.expected_complete(n_trials))):
        error = float(np.std(seen)) / len(seen) ** 0.5
        assert abs(float(np.mean(seen)) - expected) < max(4 * error, 0.02 * expected)


def _notes(folder: Path, n_trials: int, **options: Any) -> tuple[str, ...]:
    space = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})
    settings = StudySettings(**{"space": space, "epochs": 9, "optimizer": "random", **options})
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        raise KeyboardInterrupt

    with (
        open_study(f"sqlite:///{folder}/study.db", "search", settings) as study,
        pytest.raises(KeyboardInterrupt),
    ):
        run_trials(study, lambda params, report: 0.0, settings, n_trials=n_trials, observer=stop)
    assert isinstance(events[0], PhaseStarted)
    return events[0].notes


@pytest.mark.parametrize(
    ("n_trials", "options", "notes"),
    [
        (10, {"trial_pruner": "none"}, []),
        (
            30,
            {"trial_pruner": "hyperband"},
            ["hyperband: 3 brackets, in which the best third continues: after epochs 1, 3; after epoch 3; nobody is "],
        ),
        (30, {"trial_pruner": "asha"}, ["asha: after epochs 1, 3 the best third continues; about "]),
        (1, {"trial_pruner": "hyperband"}, ["hyperband cannot stop one trial of 9 epochs"]),
        (
            3,
            {"trial_pruner": "hyperband"},
            ["hyperband stops hardly any of 3 trials of 9 epochs, because the best so far in a bracket always goes on"],
        ),
        (30, {"trial_pruner": "asha", "epochs": 1}, []),  # there is no epoch to save, and nobody could help it
        (5, {"trial_pruner": "median"}, ["median stops none of 5 trials of 9 epochs: it needs 5 complete trials"]),
        (30, {"trial_pruner": "median"}, ["median: after 5 complete trials, stops a trial after any epoch of 9 at"]),
        (
            30,
            {"trial_pruner": "hyperband", "optimizer": "optuna:gp"},
            ["hyperband: 3", "warning: optuna:gp learns from complete trials only, and hyperband leaves it about "],
        ),
        (
            30,
            {"trial_pruner": "median", "optimizer": "optuna:gp"},
            ["median: ", "warning: optuna:gp learns from complete trials only, and median leaves it few trials; take"],
        ),
        (30, {"trial_pruner": "none", "optimizer": "optuna:gp"}, []),
        (30, {"trial_pruner": "hyperband", "optimizer": "skopt:gp"}, ["hyperband: 3 brackets"]),
        (
            30,
            {"trial_pruner": "none", "optimizer": "optuna:cmaes", "space": WITH_CHOICES},
            ["optuna:cmaes: learns about numbers only; the choices of norm, act are all tried equally often. If some"],
        ),
        (10, {"trial_pruner": "none", "optimizer": "optuna:cmaes", "space": WITH_CHOICES}, []),
        (
            20,
            {"trial_pruner": "none", "optimizer": "optuna:grid"},
            ["optuna:grid: the grid has 25 points (5 of x, 5 of y; 5 of a range); 5 of them are not tried in 20"],
        ),
        (
            30,
            {"trial_pruner": "none", "optimizer": "optuna:grid"},
            ["optuna:grid: the grid has 25 points (5 of x, 5 of y; 5 of a range); the last 5 trials repeat the first"],
        ),
    ],
)
def test_what_a_user_is_told_before_the_search(
    n_trials: int, options: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    told = _notes(tmp_path, n_trials, **options)
    assert len(told) == len(notes)
    for said, expected in zip(told, notes, strict=True):
        assert said.startswith(expected)


def test_the_expected_epochs_are_among_it(tmp_path: Path) -> None:
    """ASHA with 3 trials of 9 epochs: to the rung at 1 come 3, to that at 3 1 + 1/2 + 1/3, to the end 1 + .8333 / 2."""
    (note,) = _notes(tmp_path, 3, trial_pruner="asha")
    epochs = (3 * 1 + (11 / 6) * 2 + (1 + (5 / 6) / 2) * 6) / 3
    assert note.endswith(f"about {epochs:.3g} of 9 epochs a trial")


@pytest.mark.parametrize("optimizer", ["optuna:gp", "skopt:gp"])
def test_the_warning_is_true(optimizer: str, tmp_path: Path) -> None:
    """Where nearly all trials are stopped, who learns from them gets to the optimum, and who is warned of does not."""
    settings = StudySettings(SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}), 9, "maximize", optimizer, "asha")

    def objective(params: dict[str, Any], report: Any) -> float:
        score = -abs(params["x"] - 0.7) - abs(params["y"] - 0.3)
        for epoch in range(1, 10):
            report(score, epoch)
        return score

    with open_study(f"sqlite:///{tmp_path}/study.db", "search", settings) as study:
        run_trials(study, objective, settings, n_trials=22)
        late = [abs(t.params["x"] - 0.7) + abs(t.params["y"] - 0.3) for t in study.trials[-8:]]
    assert (float(np.mean(late)) < 0.2) is (optimizer == "skopt:gp")  # random points: 0.58
