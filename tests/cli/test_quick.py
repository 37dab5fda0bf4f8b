"""What is there at once: help, lists, and mistakes in a configuration load neither torch nor Optuna."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

from prunetune import engine
from prunetune.cli.listing import registries, rows
from prunetune.pruning.budget import Heads

WRITTEN = json.loads(files("prunetune.cli").joinpath("names.json").read_text(encoding="utf-8"))
HEAVY = ("torch", "optuna", "scipy", "sqlalchemy", "plotly")
PROGRAM = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr))
from prunetune.__main__ import main
main()
"""


def loaded(*arguments: str, folder: Path) -> tuple[int, list[str], str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=folder, capture_output=True, text=True)
    said, _, names = done.stderr.rpartition("LOADED")
    return done.returncode, names.split(), said + done.stdout


GOOD = '[run]\nfolder = "r"\n[model]\nname = "resnet8"\n[data]\nname = "digits"\n[search]\nspace = "paper"\n'
MISTAKES = {
    "a table that is none": (GOOD + "[serch]\n", "serch"),
    "a key that is none": (GOOD + "optimiser = 'tpe'\n", "optimiser"),
    "a number out of range": (GOOD + "[pruning]\npercentile = 120\n", "percentile"),
    "a scorer that is none": (GOOD + "[pruning]\nscorer = 'magnitud'\n", "magnitude"),
    "a network that is none": (GOOD.replace("resnet8", "resnet9"), "resnet8"),
    "a dataset that is none": (GOOD.replace("digits", "digit"), "digits"),
    "an optimizer that is none": (GOOD + "optimizer = 'tpee'\n", "tpe"),
    "a budget that is none": (GOOD + "[ladder]\nbudget = 'two'\n", "budget"),
    "no TOML": ("[model\n", "not valid TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_configuration(mistake: str, tmp_path: Path) -> None:
    text, said = MISTAKES[mistake]
    (tmp_path / "c.toml").write_text(text)
    status, names, printed = loaded("run", "c.toml", folder=tmp_path)
    assert status == 2
    assert said in printed
    assert names == []


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("list",), ("--version",)])
def test_help_and_lists(arguments: tuple[str, ...], tmp_path: Path) -> None:
    status, names, printed = loaded(*arguments, folder=tmp_path)
    assert status == 0
    assert printed
    assert names == []


@pytest.mark.parametrize("kind", registries())
def test_a_list_of_one_kind(kind: str, tmp_path: Path) -> None:
    status, names, printed = loaded("list", kind, folder=tmp_path)
    assert status == 0
    assert all(name in printed for name in WRITTEN.get(kind, registries()[kind].names()))
    assert names == []


def test_the_written_descriptions_are_those_of_the_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prunetune.cli.listing"]  # in a process where no test has registered anything
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == WRITTEN, "write it anew: python -m prunetune.cli.listing > …/cli/names.json"
    said = {row.name: [row.needs, row.description] for row in rows("scorers")}
    assert {name: said[name] for name in WRITTEN["scorers"]} == WRITTEN["scorers"]


def test_words_of_the_settings_are_the_engines() -> None:
    assert get_args(Heads) == get_args(engine.Heads)
