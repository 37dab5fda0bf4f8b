"""Every experiment is a folder with files of the same few names, and imports of others only what it may."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks"
NAMES = {"__init__", "__main__", "runs", "cases", "rivals", "report"}
EXPERIMENTS = sorted(path.parent.name for path in ROOT.glob("*/__main__.py"))


def imported(path: Path) -> list[str]:
    """The modules of the benchmarks that a file imports, those inside functions too."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = []
    for node in tree:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("benchmarks."):
            parts = node.module.split(".")
            found += [f"{parts[1]}.{a.name}" for a in node.names] if len(parts) == 2 else [".".join(parts[1:3])]
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("benchmarks") for alias in node.names), path
    return found


def test_nothing_lies_loose() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        *EXPERIMENTS,
        "common",
        "results",
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_has_the_same_few_files(experiment: str) -> None:
    found = {path.stem for path in (ROOT / experiment).glob("*.py")}
    assert {"__init__", "__main__", "runs"} <= found <= NAMES


@pytest.mark.parametrize("experiment", [*EXPERIMENTS, "common"])
def test_an_experiment_imports_no_other_ones_command_or_report(experiment: str) -> None:
    for path in (ROOT / experiment).glob("*.py"):
        for name in imported(path):
            room, _, module = name.partition(".")
            if room == experiment:
                assert module != "__main__", f"{path.name} imports its own command line"
                assert path.stem == "__main__" or module != "report", f"{path.name} imports its own report"
            else:
                assert room == "common" or (experiment != "common" and module in {"cases", "runs"}), f"{path}: {name}"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_readme_names_every_command(experiment: str) -> None:
    assert f"benchmarks.{experiment}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_other_processes_run_can_be_imported_there(experiment: str) -> None:
    """A child that was spawned has another `__main__`."""
    tree = ast.parse((ROOT / experiment / "__main__.py").read_text(encoding="utf-8"))
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    handed_on = [
        argument.id
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {"as_they_end", "processes", "Task"}
        for argument in call.args
        if isinstance(argument, ast.Name)
    ]
    assert not own.intersection(handed_on)
