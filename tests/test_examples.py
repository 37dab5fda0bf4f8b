"""What is in ``examples/`` runs as it stands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_model(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "own_model.py"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("best: {'learning_rate': ")
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["winner"]["score"] > 0.5  # a guess has 0.1
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.stdout == done.stdout


def test_run_toml(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prunetune", "run", str(EXAMPLES / "run.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Report: runs/example/report.html" in done.stdout
    record = json.loads((tmp_path / "runs" / "example" / "result.json").read_text())
    assert record["status"] == "finished"
    assert len(record["confirmation"]) == 2


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
def test_examples_of_the_engine(name: str, last: str) -> None:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == last


@pytest.mark.parametrize("name", ["optuna_study.py", "nevergrad_optimizer.py", "skopt_minimize.py"])
def test_examples_of_optimizers_of_ones_own(name: str) -> None:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("best on the proxy: {'learning_rate': 0.0")
    accuracy = done.stdout.partition("accuracy ")[2]
    assert not accuracy or float(accuracy) > 0.5  # a guess has 0.1


def test_an_objective_of_ones_own_gets_the_proxy_by_two_lines() -> None:
    """Without them the example is an ordinary one of Optuna's."""
    lines = (EXAMPLES / "optuna_study.py").read_text().splitlines()
    ours = [line for line in lines if "prunetune." in line or "build_proxy" in line]
    assert [line.split("  # ")[0].strip() for line in ours if not line.startswith('"""')] == [
        "build_proxy = prunetune.proxy_of(build, IMAGES[:64])",
        "model = build_proxy()",
    ]
