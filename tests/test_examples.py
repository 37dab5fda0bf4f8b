"""What is in ``examples/`` runs as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunetune.cli.app import app
from scripts import run_script

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_model(tmp_path: Path) -> None:
    printed = run_script(EXAMPLES / "own_model.py", tmp_path / "run", cwd=tmp_path)
    assert printed.startswith("best: {'learning_rate': ")
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["winner"]["score"] > 0.5  # a guess has 0.1
    assert run_script(EXAMPLES / "own_model.py", tmp_path / "run", cwd=tmp_path) == printed  # it is finished already


def test_run_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for smaller images, which take a quarter of the time."""
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES / "run.toml").read_text()
    assert "image_size = 16 " in text
    (tmp_path / "run.toml").write_text(text.replace("image_size = 16 ", "image_size = 8 "))
    done = CliRunner().invoke(app, ["run", "run.toml"])
    assert done.exit_code == 0, done.stderr
    assert f"Report: {tmp_path / 'runs' / 'example' / 'report.html'}" in done.stdout
    record = json.loads((tmp_path / "runs" / "example" / "result.json").read_text())
    assert record["status"] == "finished"
    assert record["ladder"]["asked"]["ladder"] == "default"
    assert len(record["confirmation"]) == 1


def test_own_model_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)  # where the file says that it works
    monkeypatch.syspath_prepend(str(EXAMPLES.parent))
    text = (EXAMPLES / "own_model.toml").read_text()
    assert "runs/own-model-toml" in text
    (tmp_path / "own.toml").write_text(text.replace("runs/own-model-toml", str(tmp_path / "run")))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "own.toml")])
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["winner"]["score"] > 0.5  # a guess has 0.1


def test_own_model_is_used_in_five_lines() -> None:
    """Between the comment that says so and the rest."""
    text = (EXAMPLES / "own_model.py").read_text()
    lines = text.split("# These are the five lines.\n")[1].split("\n\nif __name__")[0].strip().splitlines()
    assert len(lines) <= 6


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("own_operation.py", "kept whole  5 channels: output: it is the model's output"),
        ("torch_pruning_both_ways.py", "resnet18: conv1 has 32 of 64 channels"),
    ],
)
def test_examples_of_the_engine(name: str, last: str, tmp_path: Path) -> None:
    assert run_script(EXAMPLES / name, cwd=tmp_path).splitlines()[-1] == last


@pytest.mark.parametrize("name", ["optuna_study.py", "nevergrad_optimizer.py", "skopt_minimize.py"])
def test_examples_of_optimizers_of_ones_own(name: str, tmp_path: Path) -> None:
    printed = run_script(EXAMPLES / name, cwd=tmp_path)
    assert printed.splitlines()[-1].startswith("best on the proxy: {'learning_rate': 0.")
    accuracy = printed.partition("accuracy ")[2]
    assert not accuracy or float(accuracy) > 0.5  # a guess has 0.1


def test_an_objective_of_ones_own_gets_the_proxy_by_two_lines() -> None:
    """Without them the example is an ordinary one of Optuna's."""
    lines = (EXAMPLES / "optuna_study.py").read_text().splitlines()
    ours = [line for line in lines if "prunetune." in line or "build_proxy" in line]
    assert [line.split("  # ")[0].strip() for line in ours if not line.startswith('"""')] == [
        'build_proxy = prunetune.proxy_of(build, IMAGES[:64], prunetune.Pruning(optimizers="sgd"))',
        "model = build_proxy()",
    ]
