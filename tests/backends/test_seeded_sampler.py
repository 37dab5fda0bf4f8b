"""Every optimizer under the seed-by-trial-number wrapper: same seed, same trials, however often it is resumed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prunetune.backends import Categorical, Float, Int, SearchSpace, full_name, optimizers
from prunetune.backends.loop import run_trials
from prunetune.backends.seeded import derive_seed, sampler
from prunetune.backends.study import StudySettings, open_study
from prunetune.backends.trial import Report
from prunetune.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")

SPACE = SearchSpace(
    {"x": Float(1e-4, 1.0, log=True), "n": Int(1, 50), "c": Categorical(["a", "b"]), "y": Float(-1.0, 1.0)}
)
NAMES = sorted({full_name(name) for name in optimizers})
N_TRIALS = 16  # more than TPE's ten random ones


def _objective(params: dict[str, Any], report: Report) -> float:
    return float(-((params["y"] - 0.3) ** 2) - params["x"] - (params["c"] == "a") + params["n"] / 100)


def _points(path: Path, optimizer: str, seed: int, stops: Sequence[int] = (N_TRIALS,)) -> list[dict[str, Any]]:
    """Hyperparameters of all trials of a study that was opened anew for each of ``stops``."""
    settings = StudySettings(SPACE, epochs=3, optimizer=optimizer, trial_pruner="none", seed=seed)
    for stop in stops:
        with open_study(f"sqlite:///{path}", "search", settings) as study:
            run_trials(study, _objective, settings, n_trials=stop)
            points = [trial.params for trial in study.trials]
    return points


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_trials_also_when_resumed(name: str, tmp_path: Path) -> None:
    whole = _points(tmp_path / "whole.db", name, seed=3)
    assert _points(tmp_path / "again.db", name, seed=3) == whole
    assert _points(tmp_path / "resumed.db", name, seed=3, stops=(1, 4, 13, N_TRIALS)) == whole
    assert _points(tmp_path / "other.db", name, seed=4)[:5] != whole[:5]


@pytest.mark.parametrize("name", NAMES)
def test_resuming_repeats_no_point_and_stays_in_the_space(name: str, tmp_path: Path) -> None:
    points = _points(tmp_path / "study.db", name, seed=0, stops=range(1, N_TRIALS + 1))
    assert len({point["y"] for point in points}) == N_TRIALS
    for point in points:
        assert 1e-4 <= point["x"] <= 1.0
        assert 1 <= point["n"] <= 50
        assert point["c"] in ("a", "b")
        assert [type(value) for value in SPACE.plain(point).values()] == [float, int, str, float]


def test_seeds_differ_by_seed_stream_and_number() -> None:
    seeds = {
        derive_seed(seed, stream, number) for seed in (0, 1) for stream in ("search", "confirm") for number in range(50)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_short_names_are_the_full_ones() -> None:
    assert full_name("tpe") == full_name("optuna:tpe") == "optuna:tpe"
    assert optimizers["tpe"] is optimizers["optuna:tpe"]
    assert optimizers["random"] is optimizers["optuna:random"]


def test_unknown_optimizer_is_named_with_its_neighbour() -> None:
    with pytest.raises(InputError, match=r"unknown optimizer 'tpee' \(did you mean 'tpe'\?\)"):
        sampler("tpee", seed=0)


def test_importing_the_package_imports_neither_optuna_nor_torch() -> None:
    code = "import sys, prunetune.backends; print([m for m in ('optuna', 'torch', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_search_engine_does_not_know_what_a_neural_network_is() -> None:
    code = "import sys, prunetune.backends.loop; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
