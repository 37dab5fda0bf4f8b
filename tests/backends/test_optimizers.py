"""What is particular to single optimizers, and the traps that their libraries have."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import nevergrad
import numpy as np
import pytest
import skopt
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from prunetune.backends import Float, SearchSpace, check_optimizer
from prunetune.backends.samplers.grid import axis
from prunetune.backends.samplers.nevergrad import BUDGET, WORKERS, NevergradFactory, NevergradSampler, make_optimizer
from prunetune.backends.samplers.seeded import sampler
from prunetune.backends.samplers.unit_cube import UnitCube
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import StudySettings, open_study, outcome
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from tiny_study import RANGES, bowl, study_of

OURS = ["nevergrad:cma", "nevergrad:DE", "skopt:gp"]


# Nevergrad


@pytest.mark.filterwarnings("ignore")  # pycma's, on matplotlib and on injected solutions
@pytest.mark.parametrize("name", ["CMA", "DE", "TwoPointsDE", "OnePlusOne", "TBPSA", "PSO"])
def test_replay_is_what_nevergrad_alone_would_do(name: str) -> None:
    """A loop of Nevergrad's own, which is given the Sobol points of the beginning in place of its first answers."""
    wrapped = NevergradSampler(name, 5, startup=3)
    study = study_of(wrapped)
    cube = UnitCube(dict(sorted(RANGES.items())))
    native = make_optimizer(name, cube.size, 5, BUDGET, WORKERS)
    for number in range(45):
        trial = study.ask(RANGES)
        candidate = native.ask()
        if number >= 3:
            assert cube.from_unit(np.clip(candidate.value, 0, 1)) == dict(sorted(trial.params.items()))
            native.tell(candidate, bowl(trial.params))
        else:
            stands = candidate.spawn_child(new_value=cube.to_unit(trial.params))
            stands.uid = candidate.uid
            stands._meta.update(candidate._meta)
            native.tell(stands, bowl(trial.params))
        study.tell(trial, bowl(trial.params))


@pytest.mark.parametrize("name", ["DE", "TwoPointsDE", "LhsDE", "PSO"])
def test_populations_begin_all_over_the_cube(name: str) -> None:
    """As from scalars with bounds. From an array with bounds they would be normal, 0.13 from the centre on average."""
    optimizer = make_optimizer(name, 5, 0, BUDGET, WORKERS)
    points = []
    for _ in range(30):
        points.append(optimizer.ask())
        optimizer.tell(points[-1], 1.0)
    away = np.abs(np.array([point.value for point in points]) - 0.5)
    assert away.mean() == pytest.approx(0.25, abs=0.05)  # of a uniform number; four standard errors


@pytest.mark.parametrize("name", ["nevergrad:cma", "nevergrad:TwoPointsDE", "nevergrad:PSO"])
def test_a_live_optimizer_and_one_that_is_replayed_every_time_agree(name: str) -> None:
    study, points = study_of(sampler(name, 1)), []
    for number in range(40):
        trial = study.ask(RANGES)
        points.append(trial.params)
        study.tell(trial, bowl(trial.params)) if number % 7 else study.tell(trial, state=TrialState.FAIL)
    study = study_of(None)
    for number in range(40):
        study.sampler = sampler(name, 1)
        trial = study.ask(RANGES)
        assert trial.params == points[number]
        study.tell(trial, bowl(trial.params)) if number % 7 else study.tell(trial, state=TrialState.FAIL)


def _generations(size: int) -> int:
    """How often CMA has renewed its distribution after 80 trials in batches of so many."""
    cma = NevergradSampler("CMA", 0, startup=10)
    study = study_of(cma)
    for _ in range(80 // size):
        for trial in reversed([study.ask(RANGES) for _ in range(size)]):
            study.tell(trial, bowl(trial.params))
    study.ask(RANGES)
    assert cma._live is not None
    method = cma._live._optimizer.optim
    assert type(method).__name__ == "_CMA"  # without a budget it would be another
    assert method.num_tell == 80
    return int(method.es.countiter)


def test_cma_uses_all_trials_whatever_the_batches() -> None:
    """Nevergrad's population in three dimensions is 4 + int(ln 3) = 5. Told without asks there would be none at all."""
    assert _generations(1) == _generations(16) == 80 // 5


def test_cma_learns() -> None:
    """From trials that were told in any order, and better than random points: by a factor of ten, or thereabouts."""
    best = {}
    for name in ("nevergrad:cma", "random"):
        found = []
        for seed in range(3):
            study = study_of(sampler(name, seed))
            for _ in range(20):
                for trial in reversed([study.ask(RANGES) for _ in range(4)]):
                    study.tell(trial, bowl(trial.params))
            found.append(study.best_value)
        best[name] = float(np.mean(found))
    assert best["nevergrad:cma"] < 0.5 * best["random"]


@pytest.mark.parametrize("name", ["NgIohTuned", "MetaModel"])
def test_what_a_version_of_nevergrad_breaks_is_one_sentence(name: str) -> None:
    """These two are broken in 1.0.12, the version that is installed; they stand for what the next one breaks."""
    with pytest.raises(InputError) as broken:
        NevergradFactory(name, "")(seed=0)
    said = str(broken.value)
    assert said.startswith(f"the optimizer 'nevergrad:{name}' is broken in nevergrad {nevergrad.__version__}: with ")
    assert said.endswith("); take 'nevergrad:cma'")
    assert "\n" not in said


def test_ngopt_says_where_it_is_broken_before_the_second_trial_is_trained() -> None:
    study = study_of(sampler("nevergrad:NGOpt", 0))
    study.tell(study.ask({"x": RANGES["x"]}), 1.0)
    with pytest.raises(InputError, match="'nevergrad:NGOpt' is broken in nevergrad .*: with 1 dimensions"):
        study.ask({"x": RANGES["x"]})


def test_a_name_that_nobody_tried_is_unknown() -> None:
    with pytest.raises(InputError, match="unknown optimizer 'nevergrad:TwoPointDE' .did you mean 'nevergrad:TwoPoints"):
        check_optimizer("nevergrad:TwoPointDE")


# What gets to the libraries


@pytest.mark.parametrize("name", OURS)
def test_neither_nan_nor_infinity_gets_to_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    tell_nevergrad, tell_skopt = nevergrad.optimizers.base.Optimizer.tell, skopt.Optimizer.tell

    def spy_nevergrad(self: Any, candidate: Any, loss: float, *more: Any) -> None:
        losses.append(loss)
        tell_nevergrad(self, candidate, loss, *more)

    def spy_skopt(self: Any, points: Any, told: Any, *more: Any) -> Any:
        losses.extend(told)
        assert np.min(points) >= 0.0
        assert np.max(points) <= 1.0
        return tell_skopt(self, points, told, *more)

    first = study_of(sampler(name, 0))
    for _ in range(15):
        first.tell(first.ask(RANGES), 1.0)  # in these dimensions it is tried once, with losses of its own
    monkeypatch.setattr(nevergrad.optimizers.base.Optimizer, "tell", spy_nevergrad)
    monkeypatch.setattr(skopt.Optimizer, "tell", spy_skopt)
    study = study_of(sampler(name, 0))
    for number in range(15):
        trial = study.ask(RANGES)
        if number % 3 == 0:
            study.tell(trial, (math.inf, -math.inf)[number % 2])
        elif number % 3 == 1:
            trial.report(math.nan, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, float(number))
    assert len(losses) >= 14
    assert set(losses) <= {0.0, 2.0, 5.0, 8.0, 11.0, 14.0}


@pytest.mark.parametrize("name", OURS)
def test_points_at_the_very_ends_are_no_trouble(name: str) -> None:
    """exp(log(high)) is above high, by 1e-16 of it: which scikit-optimize refuses."""
    ends = {"a": FloatDistribution(0.1, 0.3, log=True), "n": IntDistribution(1, 3), "c": CategoricalDistribution("ab")}
    study = study_of(sampler(name, 0))
    for a in (0.1, 0.3):
        for n in (1, 3):
            study.enqueue_trial({"a": a, "n": n, "c": "a"})
    for number in range(14):
        trial = study.ask(ends)
        study.tell(trial, trial.params["a"] * trial.params["n"] + number % 2)
    assert study.trials[3].params == {"a": 0.3, "n": 3, "c": "a"}


@pytest.mark.parametrize("name", ["skopt:gp", "skopt:forest", "skopt:et"])
def test_who_asks_before_the_answer_gets_another_point(name: str) -> None:
    study = study_of(sampler(name, 0))
    for _ in range(10):
        trial = study.ask(RANGES)
        study.tell(trial, bowl(trial.params))
    asked = [study.ask(RANGES).params for _ in range(3)]
    assert len({str(point) for point in asked}) == 3
    assert abs(asked[0]["x"] - asked[1]["x"]) + abs(asked[0]["n"] - asked[1]["n"]) > 1e-3


def _half_diverges(params: dict[str, Any], report: Report) -> float:
    """Far from the optimum half of the space diverges, and the first trial."""
    return math.nan if params["x"] > 0.5 or report.number == 0 else -abs(params["x"] - 0.2) - abs(params["y"] - 0.3)


@pytest.mark.parametrize("name", ["nevergrad:cma", "skopt:gp", "optuna:gp"])
def test_an_optimizer_keeps_away_from_where_trials_diverge(name: str, tmp_path: Path) -> None:
    settings = StudySettings(SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}), 1, "maximize", name, "none")
    with open_study(f"sqlite:///{tmp_path}/study.db", "search", settings) as study:
        run_trials(study, _half_diverges, settings, n_trials=20)
        late = [trial for trial in study.trials[10:] if outcome(trial) == "diverged"]
    assert len(late) <= 2  # of 10, half of which are there without learning


@pytest.mark.parametrize(("name", "learns"), [("skopt:gp", True), ("nevergrad:cma", True), ("optuna:gp", False)])
def test_who_learns_from_trials_that_were_stopped(name: str, learns: bool) -> None:
    """All trials are stopped, with a score that says where to go."""
    study = study_of(sampler(name, 0))
    for _ in range(60 if name == "nevergrad:cma" else 25):
        trial = study.ask(RANGES)
        trial.report(bowl(trial.params), 1)
        study.tell(trial, state=TrialState.PRUNED)
    late = float(np.mean([bowl(trial.params) for trial in study.trials[-10:]]))
    early = float(np.mean([bowl(trial.params) for trial in study.trials[:10]]))
    assert (late < 0.4 * early) is learns
    assert getattr(study.sampler, "learns_from_stopped", True) is learns


# Optuna's


def test_qmc_is_more_even_than_random() -> None:
    from scipy.stats import qmc

    def unevenness(name: str) -> float:
        study = study_of(sampler(name, 0))
        ranges = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
        points = []
        for _ in range(64):
            trial = study.ask(ranges)
            points.append([trial.params["a"], trial.params["b"]])
            study.tell(trial, 0.0)
        return float(qmc.discrepancy(points))

    assert unevenness("optuna:qmc") < 0.3 * unevenness("random")


# The grid


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (FloatDistribution(0, 1), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (FloatDistribution(1e-5, 0.1, log=True), [1e-5, 1e-4, 1e-3, 1e-2, 0.1]),
        (FloatDistribution(0, 1, step=0.5), [0.0, 0.5, 1.0]),
        (IntDistribution(1, 4), [1, 2, 3, 4]),
        (IntDistribution(0, 10), [0, 2, 5, 8, 10]),  # 2.5 and 7.5, to even numbers
        (IntDistribution(32, 512, log=True), [32, 64, 128, 256, 512]),
        (CategoricalDistribution(["a", None]), ["a", None]),
    ],
)
def test_the_values_of_a_grid_by_hand(distribution: Any, values: list[object]) -> None:
    assert axis(distribution) == values


def test_every_point_of_a_grid_comes_once_then_all_again() -> None:
    ranges = {"a": IntDistribution(0, 2), "b": CategoricalDistribution(["x", "y"])}
    study = study_of(sampler("optuna:grid", 0))
    study.enqueue_trial({"a": 1, "b": "y"})
    for _ in range(3):
        study.tell(study.ask(ranges), 0.0)
    running = study.ask(ranges)  # its point is taken, too
    for _ in range(8):
        study.tell(study.ask(ranges), 0.0)
    points = [str(trial.params) for trial in study.trials]
    assert len(set(points[:6])) == len(set(points)) == 6
    assert points.count(str(running.params)) <= 2


def test_a_grid_beyond_all_bounds_is_refused() -> None:
    ranges = {f"x{k}": FloatDistribution(0, 1) for k in range(9)}
    study = study_of(sampler("optuna:grid", 0))
    study.tell(study.ask(ranges), 0.0)
    with pytest.raises(InputError, match="the grid has 1,953,125 points; take 'optuna:qmc', or search fewer"):
        study.ask(ranges)


# What is not installed


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("nevergrad:cma", "nevergrad", "nevergrad>=1.0.12"),
        ("bo", "skopt", "scikit-optimize>=0.10.2"),
    ],
)
def test_a_missing_library_is_one_sentence(name: str, module: str, command: str) -> None:
    code = f"""
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {module!r} else real(name, *rest)
from prunetune.backends import check_optimizer
try:
    check_optimizer({name!r})
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stdout.endswith(f", which is not installed: pip install {command!r}\n")


def test_listing_names_loads_no_library() -> None:
    code = "import sys, prunetune.backends as b; b.optimizers.names(); print({'nevergrad', 'skopt'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
