"""The search loop and everything that a train function can do wrong."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from prunetune.backends import Float, SearchSpace
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, count_outcomes, open_study, outcome, top_trials
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError
from prunetune.events import EpochEnded, Event, PhaseEnded, PhaseStarted, TrialEnded, TrialStarted, Warned, silent

pytestmark = pytest.mark.filterwarnings("error")

SPACE = SearchSpace({"x": Float(0, 1)})


def _settings(**options: Any) -> StudySettings:
    return StudySettings(SPACE, **{"epochs": 3, "optimizer": "random", "trial_pruner": "none", **options})


def _run(
    folder: Path,
    objective: Callable[[dict[str, Any], Report], Any],
    n_trials: int = 1,
    observer: Callable[[Event], None] = silent,
    **options: Any,
) -> list[optuna.trial.FrozenTrial]:
    settings = _settings(**options)
    with open_study(f"sqlite:///{folder}/study.db", "search", settings) as study:
        run_trials(study, objective, settings, n_trials=n_trials, observer=observer)
        return study.trials


def _trials(folder: Path, **options: Any) -> list[optuna.trial.FrozenTrial]:
    with open_study(f"sqlite:///{folder}/study.db", "search", _settings(**options)) as study:
        return study.trials


def _by_number(*scores: Any) -> Callable[[dict[str, Any], Report], Any]:
    """An objective whose trials do what is listed: return a score, or raise."""

    def objective(params: dict[str, Any], report: Report) -> Any:
        score = scores[report.number]
        if isinstance(score, BaseException):
            raise score
        return score

    return objective


def test_a_trial_is_recorded_with_all_that_happened(tmp_path: Path) -> None:
    def objective(params: dict[str, Any], report: Report) -> float:
        assert (report.epochs, report.number) == (3, 0)
        assert 0 <= report.seed < 2**32
        assert list(params) == ["x"]
        report(0.25, 1)
        report(torch.tensor(0.5), 3)  # type: ignore[arg-type]
        report.note("colour", "red")
        time.sleep(0.02)
        return np.float32(0.75)  # type: ignore[return-value]

    (trial,) = _run(tmp_path, objective)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.75)
    assert trial.intermediate_values == {1: 0.25, 3: 0.5}
    notes = trial.user_attrs
    assert (notes["outcome"], notes["epochs"], notes["colour"]) == ("complete", 3, "red")
    assert 0.02 <= notes["seconds"] < 5
    assert "message" not in notes


def test_seeds_are_the_trials_own_and_reproducible(tmp_path: Path) -> None:
    seeds: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        seeds.append(report.seed)
        return 0.0

    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        _run(folder, objective, n_trials=3)
    assert seeds[:3] == seeds[3:]
    assert len(set(seeds)) == 3


def test_events_in_order(tmp_path: Path) -> None:
    events: list[Event] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        report(0.5, 1)
        if report.number == 1:
            raise ValueError("boom")
        return 0.75

    trials = _run(tmp_path, objective, n_trials=2, observer=events.append)
    seconds = [trial.user_attrs["seconds"] for trial in trials]
    assert events[:-2] == [
        PhaseStarted("search", 2, 0, direction="maximize"),
        TrialStarted("search", 0, trials[0].params),
        EpochEnded("search", 0, 1, 3, 0.5),
        TrialEnded("search", 0, "complete", 0.75, seconds[0]),
        TrialStarted("search", 1, trials[1].params),
        EpochEnded("search", 1, 1, 3, 0.5),
        TrialEnded("search", 1, "failed", 0.5, seconds[1], "ValueError: boom"),
    ]
    assert events[-2] == Warned("warning: 1 of 2 trials failed (search); the last, trial 1: ValueError: boom")
    assert isinstance(events[-1], PhaseEnded)
    assert events[-1].message == "best 0.75 (trial 0); 1 complete, 1 failed"


def test_the_budget_counts_trials_of_earlier_starts(tmp_path: Path) -> None:
    calls: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        calls.append(report.number)
        return [0.25, 0.75, 0.5, 0.0, 0.0][report.number]

    events: list[Event] = []
    assert len(_run(tmp_path, objective, n_trials=2)) == 2
    assert len(_run(tmp_path, objective, n_trials=5, observer=events.append)) == 5
    assert len(_run(tmp_path, objective, n_trials=5)) == 5
    assert calls == [0, 1, 2, 3, 4]
    assert events[0] == PhaseStarted("search", 5, 2, best=0.75, direction="maximize", ended={"complete": 2})


# Scores that are none


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, torch.tensor(math.nan), 10**400])
@pytest.mark.parametrize("how", ["reported", "returned"])
@pytest.mark.parametrize(("direction", "worst"), [("maximize", 0.125), ("minimize", 0.5)])
def test_a_diverged_trial_is_told_as_the_worst_and_never_the_best(
    bad: Any, how: str, direction: str, worst: float, tmp_path: Path
) -> None:
    reached: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> Any:
        if report.number == 0:
            report(0.125, 1)
            return 0.5
        report(0.25, 1)
        if how == "reported":
            report(bad, 2)
            reached.append(report.number)
        return bad

    events: list[Event] = []
    good, diverged = _run(tmp_path, objective, n_trials=2, direction=direction, observer=events.append)
    assert reached == []  # the trial ended at once
    assert (diverged.state, diverged.value) == (TrialState.COMPLETE, worst)
    assert diverged.user_attrs["outcome"] == "diverged"
    assert diverged.user_attrs["epochs"] == (2 if how == "reported" else 1)
    assert diverged.intermediate_values == {1: 0.25}
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert (ended[1].outcome, ended[1].score) == ("diverged", 0.25)
    assert "the score is" in ended[1].message or "the final score is" in ended[1].message
    with open_study(f"sqlite:///{tmp_path}/study.db", "search", _settings(direction=direction)) as study:
        assert [trial.number for trial in top_trials(study, 5)] == [good.number]


def test_divergence_is_not_undone_by_a_train_function_that_catches_everything(tmp_path: Path) -> None:
    def objective(params: dict[str, Any], report: Report) -> float:
        for epoch in (1, 2):
            try:
                report(math.nan, epoch)
            except Exception:  # what careless train functions do
                continue
        return 1.0

    (trial,) = _run(tmp_path, objective)
    assert trial.user_attrs["outcome"] == "diverged"


@pytest.mark.parametrize(("direction", "worst"), [("maximize", -math.inf), ("minimize", math.inf)])
def test_tpe_keeps_away_from_where_trials_diverge_from_the_first_one_on(
    direction: str, worst: float, tmp_path: Path
) -> None:
    """Half of the space diverges, far from the optimum at 0.2: half of all random points, hardly any of TPE's."""

    def objective(params: dict[str, Any], report: Report) -> float:
        if params["x"] > 0.5 or report.number == 0:
            return math.nan
        distance = abs(params["x"] - 0.2)
        return -distance if direction == "maximize" else float(distance)

    trials = _run(tmp_path, objective, n_trials=40, direction=direction, optimizer="tpe")
    assert trials[0].value == worst
    late = [trial for trial in trials[15:] if outcome(trial) == "diverged"]
    assert len(late) <= 4  # of 25; 12.5 without learning


def test_tpe_ranks_infinity_last(tmp_path: Path) -> None:
    """All ten random trials diverge but one: the next points must cluster round that one."""

    def objective(params: dict[str, Any], report: Report) -> float:
        return 1.0 if report.number in (9, *range(10, 30)) else -math.inf

    trials = _run(tmp_path, objective, n_trials=20, optimizer="tpe")
    assert [trial.value for trial in trials[:9]] == [-math.inf] * 9
    centre = trials[9].params["x"]
    random_distance = float(np.mean([abs(trial.params["x"] - centre) for trial in trials[:9]]))
    assert np.mean([abs(trial.params["x"] - centre) for trial in trials[10:]]) < 0.6 * random_distance


# Objectives that raise


def test_an_exception_fails_its_trial_and_the_search_goes_on(tmp_path: Path) -> None:
    trials = _run(tmp_path, _by_number(1.0, ValueError("no such layer"), 2.0), n_trials=3)
    failed = trials[1]
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs["outcome"] == "failed"
    assert failed.user_attrs["message"] == "ValueError: no such layer"
    assert "in objective" in failed.user_attrs["traceback"]
    assert "ValueError: no such layer" in failed.user_attrs["traceback"]
    assert [trial.value for trial in trials] == [1.0, None, 2.0]


def test_five_failures_at_the_start_end_the_search(tmp_path: Path) -> None:
    errors = [RuntimeError(f"failure {number}") for number in range(8)]
    with pytest.raises(SearchError) as caught:
        _run(tmp_path, _by_number(*errors), n_trials=8)
    assert str(caught.value) == "the first 5 trials all failed (search); the last, trial 4: RuntimeError: failure 4"
    assert "in objective" in caught.value.__notes__[0]  # where it was raised
    assert len(_trials(tmp_path)) == 5


def test_a_mended_train_function_goes_on_after_five_failures(tmp_path: Path) -> None:
    with pytest.raises(SearchError):
        _run(tmp_path, _by_number(*[RuntimeError("broken")] * 8), n_trials=8)
    trials = _run(tmp_path, lambda params, report: 1.0, n_trials=8)
    assert [outcome(trial) for trial in trials] == ["failed"] * 5 + ["complete"] * 8  # failures that say nothing


def test_one_that_fails_again_after_five_failures_ends_at_once(tmp_path: Path) -> None:
    for total in (5, 6):
        with pytest.raises(SearchError, match=f"the first {total} trials all failed"):
            _run(tmp_path, _by_number(*[RuntimeError("broken")] * 8), n_trials=8)


def test_four_failures_and_one_success_are_a_search(tmp_path: Path) -> None:
    boom = RuntimeError("boom")
    with pytest.warns(UserWarning, match=r"^6 of 7 trials failed \(search\); the last, trial 6: RuntimeError: boom$"):
        trials = _run(tmp_path, _by_number(boom, boom, boom, boom, 1.0, boom, boom), n_trials=7)
    assert [outcome(trial) for trial in trials] == ["failed"] * 4 + ["complete"] + ["failed"] * 2


def test_five_failures_in_a_row_end_the_search_and_are_not_counted(tmp_path: Path) -> None:
    """A device that dies: every trial after that fails in the same way, at once."""
    dead = [RuntimeError(f"CUDA error: an illegal memory access was encountered ({number})") for number in range(20)]
    said = (
        "the last 5 trials all failed with RuntimeError, and are not counted (search); the last, trial 7: "
        f"RuntimeError: {dead[4]}"
    )
    for start in (0, 5):  # and a start in which nothing is mended does not come to an end either
        with pytest.raises(SearchError) as caught:
            _run(tmp_path, _by_number(1.0, 2.0, 3.0, *dead), n_trials=12)
        assert len(_trials(tmp_path)) == 8 + start
        assert (str(caught.value) == said) == (start == 0)
    events: list[Event] = []
    trials = _run(tmp_path, lambda params, report: 1.0, n_trials=12, observer=events.append)
    assert events[0] == PhaseStarted("search", 12, 3, best=3.0, direction="maximize", ended={"complete": 3})
    assert [outcome(trial) for trial in trials] == ["complete"] * 3 + ["failed"] * 10 + ["complete"] * 9


def test_failures_of_different_kinds_or_not_in_a_row_do_not(tmp_path: Path) -> None:
    boom, other = RuntimeError("boom"), OSError("other")
    four = [boom] * 4
    endings = [1.0, *four, other, *four, 2.0, *four, 3.0, *[4.0] * 12]
    assert len(_run(tmp_path, _by_number(*endings), n_trials=len(endings))) == len(endings)


def test_fewer_trials_than_five_that_all_fail(tmp_path: Path) -> None:
    with pytest.raises(
        SearchError, match=r"the first 2 trials all failed \(search\); the last, trial 1: OSError: disk"
    ):
        _run(tmp_path, _by_number(OSError("no"), OSError("disk")), n_trials=2)


def test_diverged_trials_are_no_failures(tmp_path: Path) -> None:
    trials = _run(tmp_path, _by_number(*[math.nan] * 7), n_trials=7)
    assert [outcome(trial) for trial in trials] == ["diverged"] * 7


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_is_recorded_raised_and_made_up_for(stop: BaseException, tmp_path: Path) -> None:
    seeds: list[int] = []

    def objective(params: dict[str, Any], report: Report) -> float:
        seeds.append(report.seed)
        if report.number == 1:
            report(0.5, 1)
            raise stop
        return 1.0

    with pytest.raises(type(stop)):
        _run(tmp_path, objective, n_trials=3)
    interrupted = _trials(tmp_path)[1]
    assert (interrupted.state, interrupted.user_attrs["outcome"]) == (TrialState.FAIL, "interrupted")
    assert interrupted.user_attrs["epochs"] == 1
    trials = _run(tmp_path, objective, n_trials=3)
    assert [outcome(trial) for trial in trials] == ["complete", "interrupted", "complete", "complete"]
    assert trials[2].params == trials[1].params  # its place in the random stream is taken up again,
    assert len({trial.params["x"] for trial in trials}) == 3
    assert len(set(seeds)) == 4  # with another seed for the training


# Misuse


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda report: None, "the train function's return value, its final score, must be one number, not None"),
        (lambda report: "0.5", "must be one number, not '0.5'"),
        (lambda report: torch.ones(2), "must be one number, not tensor([1., 1.])"),
        (lambda report: [0.5], "must be one number, not [0.5]"),
        (lambda report: True, "must be one number, not True"),
        (lambda report: report(None, 1), "report: the score must be one number, not None"),
        (lambda report: report("high", 1), "report: the score must be one number, not 'high'"),
        (lambda report: report(0.5, 0), "report: epoch is 0, but it must be a whole number of at least 1"),
        (lambda report: report(0.5, 1.5), "report: epoch is 1.5, but it must be a whole number of at least 1"),
        (lambda report: (report(0.5, 2), report(0.5, 2)), "report: epoch is 2 after 2; call report once an epoch"),
        (lambda report: (report(0.5, 2), report(0.5, 1)), "report: epoch is 1 after 2"),
        (lambda report: report(0.5, 4), "report: epoch is 4, but a trial has 3 epochs (report.epochs)"),
    ],
)
def test_misuse_is_an_input_error_at_once(use: Callable[[Any], Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        _run(tmp_path, lambda params, report: use(report), n_trials=3)
    assert sentence in str(caught.value)
    (trial,) = _trials(tmp_path)
    assert outcome(trial) == "failed"
    assert sentence in trial.user_attrs["message"]


def test_misuse_after_a_trial_that_went_well_only_fails_its_trial(tmp_path: Path) -> None:
    trials = _run(tmp_path, _by_number(1.0, None, 2.0), n_trials=3)
    assert [outcome(trial) for trial in trials] == ["complete", "failed", "complete"]
    assert trials[1].user_attrs["message"].startswith("the train function's return value")


# Trial pruners


def test_a_train_function_that_never_reports_is_warned_about_once(tmp_path: Path) -> None:
    events: list[Event] = []
    _run(tmp_path, lambda params, report: 1.0, n_trials=3, trial_pruner="hyperband", observer=events.append)
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert warning.startswith("warning: the train function reports nothing, so hyperband cannot stop any trial")


def test_without_a_trial_pruner_nothing_need_be_reported(tmp_path: Path) -> None:
    events: list[Event] = []
    _run(tmp_path, lambda params, report: 1.0, n_trials=2, observer=events.append)
    assert [event.message for event in events if isinstance(event, TrialEnded)] == ["", ""]


def _ever_worse(params: dict[str, Any], report: Report) -> float:
    for epoch in range(1, report.epochs + 1):
        report(-report.number, epoch)
    return -report.number


def test_stopped_trials_are_pruned_with_their_last_score(tmp_path: Path) -> None:
    trials = _run(tmp_path, _ever_worse, n_trials=6, trial_pruner="hyperband", epochs=2)
    assert [outcome(trial) for trial in trials] == ["complete"] + ["pruned"] * 5
    stopped = trials[3]
    assert (stopped.state, stopped.value, stopped.user_attrs["epochs"]) == (TrialState.PRUNED, -3.0, 1)
    assert stopped.user_attrs["message"] == "stopped after epoch 1 of 2"


def test_a_trial_that_has_come_to_its_last_epoch_is_not_stopped(tmp_path: Path) -> None:
    """With three epochs Optuna's rungs are 1 and 3, and at 3 nothing is left to be saved."""
    trials = _run(tmp_path, _ever_worse, n_trials=15, trial_pruner="hyperband", epochs=3)
    assert {(outcome(trial), trial.user_attrs["epochs"]) for trial in trials} == {("complete", 3), ("pruned", 1)}


def test_a_train_function_may_stop_a_trial_itself(tmp_path: Path) -> None:
    trials = _run(tmp_path, _by_number(1.0, optuna.TrialPruned("enough")), n_trials=2)
    assert outcome(trials[1]) == "pruned"
    assert trials[1].user_attrs["message"] == "enough"


# A killed process

_KILLED = """
import os, signal, sys
from prunetune.backends import Float, SearchSpace
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study

settings = StudySettings(SearchSpace({"x": Float(0, 1)}), epochs=3, optimizer="tpe", trial_pruner="none")

def objective(params, report):
    report(params["x"], 1)
    if report.number == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return params["x"]

with open_study(sys.argv[1], "search", settings) as study:
    run_trials(study, objective, settings, n_trials=15)
"""


def test_sigkill_in_the_middle_of_a_trial_then_resume(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, f"sqlite:///{tmp_path}/study.db"], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    trials = _run(tmp_path, lambda params, report: params["x"], n_trials=15, optimizer="tpe")
    assert [outcome(trial) for trial in trials] == ["complete"] * 12 + ["interrupted"] + ["complete"] * 3
    assert trials[12].state == TrialState.FAIL
    assert trials[12].intermediate_values == {1: trials[12].params["x"]}
    assert trials[13].params == trials[12].params  # once more, with another seed
    assert trials[13].user_attrs["retry_of"] == 12
    assert len({trial.user_attrs["seed"] for trial in trials if outcome(trial) == "complete"}) == 15
    (tmp_path / "whole").mkdir()
    whole = _run(tmp_path / "whole", lambda params, report: params["x"], n_trials=15, optimizer="tpe")
    assert len({trial.params["x"] for trial in whole}) == 15
    assert [trial.params for trial in whole] == [trial.params for trial in (*trials[:12], *trials[13:])]
    with open_study(f"sqlite:///{tmp_path}/study.db", "search", _settings(optimizer="tpe")) as study:
        assert count_outcomes(study)["interrupted"] == 1
        assert 12 not in [trial.number for trial in top_trials(study, 20)]
