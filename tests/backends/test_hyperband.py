"""Hyperband's arithmetic, worked out by hand, and Optuna's Hyperband beside it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from prunetune.backends import Float, SearchSpace, trial_pruners
from prunetune.backends.pruners.hyperband import describe, hyperband
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study, outcome
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("epochs", "factor", "brackets"),
    [
        (1, 3, ((),)),
        (2, 3, ((1,),)),
        (3, 3, ((1,), ())),
        (5, 3, ((1, 3), (3,))),
        (9, 3, ((1, 3), (3,), ())),
        (27, 3, ((1, 3, 9), (3, 9), (9,), ())),
        (160, 3, ((1, 3, 9, 27, 81), (3, 9, 27, 81), (9, 27, 81), (27, 81), (81,))),
        (1000, 4, ((1, 4, 16, 64, 256), (4, 16, 64, 256), (16, 64, 256), (64, 256), (256,))),
    ],
)
def test_rungs_by_hand(epochs: int, factor: int, brackets: tuple[tuple[int, ...], ...]) -> None:
    rungs = describe(epochs)
    assert (rungs.reduction_factor, rungs.brackets) == (factor, brackets)


@pytest.mark.parametrize("epochs", [1, 2, 3, 8, 9, 10, 26, 27, 80, 81, 82, 160, 242, 243, 244, 729, 1024, 5000])
def test_optuna_counts_as_many_brackets(epochs: int) -> None:
    pruner = hyperband(epochs)
    study = optuna.create_study(pruner=pruner, storage=optuna.storages.InMemoryStorage())
    pruner.prune(study, study.trials[0] if study.trials else _a_trial(study))
    assert pruner._n_brackets == len(describe(epochs).brackets) <= 5


def _a_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    study.ask()
    return study.trials[0]


def test_description_for_people() -> None:
    assert (
        str(describe(9))
        == "3 brackets, in which the best third continues: after epochs 1, 3; after epoch 3; nobody is stopped"
    )


def test_no_epochs_are_refused() -> None:
    with pytest.raises(InputError, match="epochs is 0, but it must be a whole number of at least 1"):
        describe(0)


def _bracket(number: int) -> int:
    """Of 9 epochs: 3 brackets with 3·9/3 = 9, ⌈3·3/2⌉ = 5 and 3·1/1 = 3 trials of every 17, by the hash."""
    place = zlib.crc32(f"search_{number}".encode()) % 17
    return 0 if place < 9 else 1 if place < 14 else 2


def _run(tmp_path: Path, score: Callable[[int], float], n_trials: int = 24) -> list[tuple[str, int]]:
    settings = StudySettings(SearchSpace({"x": Float(0, 1)}), epochs=9, optimizer="random", trial_pruner="hyperband")

    def objective(params: dict[str, object], report: Report) -> float:
        for epoch in range(1, report.epochs + 1):
            report(score(report.number), epoch)
        return score(report.number)

    with open_study(f"sqlite:///{tmp_path}/study.db", "search", settings) as study:
        run_trials(study, objective, settings, n_trials=n_trials)
        return [(outcome(trial) or "", trial.user_attrs["epochs"]) for trial in study.trials]


def test_ever_worse_trials_stop_at_the_first_rung_of_their_bracket(tmp_path: Path) -> None:
    """Only a bracket's first trial is the best at its rung; a trial of the last bracket is never stopped."""
    seen: set[int] = set()
    expected = []
    for number in range(24):
        bracket = _bracket(number)
        first = bracket not in seen
        seen.add(bracket)
        expected.append(("complete", 9) if first or bracket == 2 else ("pruned", (1, 3)[bracket]))
    assert seen == {0, 1, 2}
    assert _run(tmp_path, lambda number: -float(number)) == expected


def test_ever_better_trials_are_never_stopped(tmp_path: Path) -> None:
    assert _run(tmp_path, float, n_trials=12) == [("complete", 9)] * 12


@pytest.mark.parametrize("name", trial_pruners.names())
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_every_trial_pruner_lets_the_best_so_far_go_on(name: str, epochs: int) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=trial_pruners[name](epochs), storage=optuna.storages.InMemoryStorage()
    )
    for number in range(6):
        trial = study.ask()
        for epoch in range(1, epochs):
            trial.report(float(number), epoch)
            assert not trial.should_prune()
        study.tell(trial, float(number))
