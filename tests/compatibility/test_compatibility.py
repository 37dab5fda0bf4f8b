"""What version 0.1.0 left opens, goes on and is reported by today's code; names, paths and trial sequences are as then.

``make.py`` made the files with the code of that version. They change only where a change is meant: then the changelog
says so, and the test that holds it says why.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import shutil
import sqlite3
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import optuna
import pytest
from torch import nn
from typer.testing import CliRunner

import prunetune
from prunetune.cli.app import app
from prunetune.engine import PruningPlan, apply

HERE = Path(__file__).parent
FILES = HERE / "format1"
SEQUENCES = json.loads((FILES / "sequences.json").read_text())  # since 0.1.0: optuna:qmc is one Sobol sequence
NAMES = (HERE / "names.txt").read_text().split()


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("compatibility_make", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _load(HERE / "make.py")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of the folders, which a test may go on with."""
    shutil.copytree(FILES, tmp_path / "kept")
    return tmp_path / "kept"


def known_score(params: dict[str, Any], width: int = 16, epochs: int = 3) -> float:
    """What the train function of ``make.py`` comes to, by its formula."""
    return width - abs(params["lr"] - 0.1) - params["steps"] / 100 + epochs / 10


def winner_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())["winner"]  # type: ignore[no-any-return]


def test_a_finished_run_returns_its_result(kept: Path) -> None:
    before = winner_of(kept / "finished")
    result = make.tune(kept / "finished")
    assert result.already_finished
    assert result.params == before["params"]
    assert result.score == pytest.approx(known_score(result.params), abs=1e-12)
    model = make.net()
    result.load_weights(model)
    assert all((p == pytest.approx(result.params["lr"])) for p in model[0].weight.detach().flatten().tolist())


def test_a_finished_run_takes_more_trials(kept: Path) -> None:
    result = make.tune(kept / "finished", search=replace(make.SEARCH, n_trials=8))
    assert not result.already_finished
    assert result.score == pytest.approx(known_score(result.params), abs=1e-12)
    with sqlite3.connect(kept / "finished" / "study.db") as db:
        (search,) = db.execute("SELECT study_id FROM studies WHERE study_name = 'search'").fetchone()
        (complete,) = db.execute(
            "SELECT count(*) FROM trials WHERE study_id = ? AND state IN ('COMPLETE', 'PRUNED')", (search,)
        ).fetchone()
    assert complete == 8


def test_a_stopped_run_goes_on_to_the_same_end(kept: Path) -> None:
    result = make.tune(kept / "stopped")
    assert not result.already_finished
    assert result.score == pytest.approx(known_score(result.params), abs=1e-12)
    stopped, whole = (_trials(kept / name) for name in ("stopped", "finished"))
    assert [trial.params for trial in stopped if trial.value is not None][:3] == [t.params for t in whole][:3]


def _trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """By Optuna alone: the studies are its own."""
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db").trials


def test_a_comparison_goes_on_without_training_anything_again(kept: Path) -> None:
    before = json.loads((kept / "compared" / "compare.json").read_text())
    found = make.compare(kept / "compared")
    assert [row["name"] for row in before["rows"]] == [row.name for row in found.rows]
    assert _studies(kept / "compared") == _studies(FILES / "compared")


def _studies(folder: Path) -> list[Any]:
    with sqlite3.connect(folder / "study.db") as db:
        return db.execute("SELECT study_id, number, state FROM trials ORDER BY trial_id").fetchall()


def test_a_configured_run_is_reported_checked_and_finished(kept: Path) -> None:
    folder = kept / "configured"
    config = kept / "run.toml"
    config.write_text((HERE / "run.toml").read_text().replace("/srv/prunetune-runs/configured", str(folder)))
    before = winner_of(folder)
    for arguments in (["report", str(folder)], ["check", str(config), "--configurations", "4", "--epochs", "1"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert "Trial" in (folder / "report.html").read_text()
    done = CliRunner().invoke(app, ["run", str(config)])
    assert done.exit_code == 0, done.output
    assert winner_of(folder) == before


def test_a_plan_is_applied(kept: Path) -> None:
    plan = PruningPlan.load(FILES / "finished" / "plan.json")
    cut = apply(plan, make.net())
    widths = [module.weight.shape for module in cut.modules() if isinstance(module, nn.Linear)]
    assert [tuple(shape) for shape in widths] == [(8, 6), (8, 8), (2, 8)]


@pytest.mark.parametrize("case", SEQUENCES)
def test_a_seed_gives_the_same_trials(case: str) -> None:
    optimizer, label = case.split()
    space = make.NUMBERS if label == "numbers" else make.MIXED
    expected = SEQUENCES[case]
    if isinstance(expected, str):
        with pytest.raises(getattr(prunetune.errors, expected)):
            make.sequence(optimizer, space)
        return
    found = make.sequence(optimizer, space)
    assert len(found) == len(expected)
    for now, then in zip(found, expected, strict=True):
        assert now == pytest.approx(then, rel=1e-6) if label == "numbers" else _alike(now, then)


def _alike(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return now["kind"] == then["kind"] and all(now[n] == pytest.approx(then[n], rel=1e-6) for n in ("rate", "steps"))


@pytest.mark.filterwarnings("ignore:prunetune.*now:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_documented_name_is_where_it_was(name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


def test_public_names_are_still_public() -> None:
    public = {name.removeprefix("prunetune.") for name in NAMES if name.count(".") == 1}
    assert {name for name in public if name[0].isupper()} <= set(prunetune.__all__)
    assert {"check", "compare", "proxy_objective", "proxy_of", "prune", "tune", "work"} <= set(prunetune.__all__)


def test_entry_points_are_those_of_before() -> None:
    (script,) = [e for e in entry_points(group="console_scripts") if e.name == "prunetune"]
    assert callable(script.load())
    assert callable(pkgutil.resolve_name("prunetune.cli:main"))  # what the script of 0.1.0 calls
    groups = {registry.group for registry in (prunetune.backends.optimizers, prunetune.backends.trial_pruners)}
    scorers = importlib.import_module("prunetune.plugins").scorers
    assert {*groups, scorers.group} == {"prunetune.optimizers", "prunetune.trial_pruners", "prunetune.scorers"}
