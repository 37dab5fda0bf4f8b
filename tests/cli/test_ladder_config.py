"""Ladders in a configuration and on the command line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.config import parse_config, with_budget
from prunetune.cli.launch import keep_config
from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder, Rung

SMALLEST = """
[model]
name = "resnet8"
[data]
name = "digits"
[run]
folder = "runs/x"
"""
BY_HAND = """
[[ladder.rung]]
width = "proxy"
epochs = 0.5
trials = 8
keep = 2
controls = 1
[[ladder.rung]]
width = 0.25
keep = 1
[[ladder.rung]]
"""


def read(extra: str) -> Any:
    return parse_config(tomllib.loads(SMALLEST + extra))


def test_rungs_one_by_one_are_the_ladder_of_the_same_words() -> None:
    expected = Ladder(Rung(None, 0.5, trials=8, keep=2, controls=1), Rung(0.25, keep=1), Rung())
    table = read(BY_HAND).ladder
    assert (table.asked, table.budget) == (expected, None)


def test_a_name_and_a_budget() -> None:
    table = read('[ladder]\nname = "paper"\nbudget = "90m"').ladder
    assert (table.asked, table.budget) == ("paper", "90m")
    assert read("").ladder.asked is None
    assert read("[ladder]\nbudget = 2.5").ladder.budget == 2.5


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ('[ladder]\nname = "papper"', "ladder.name: unknown ladder 'papper'.*did you mean 'paper'"),
        ('[ladder]\nbudget = "soon"', "budget is 'soon', which is no number and no time: write 3 or 2.5"),
        ("[ladder]\nbudget = 0", "budget is 0, but it must be above 0"),
        ("[ladder]\nbudget = true", "ladder.budget must be one number, not True"),
        ("[ladder]\nbudged = 3", "ladder.*budged"),
        ('[ladder]\nname = "paper"' + BY_HAND, "ladder.rung and ladder.name are both given, but only one can decide"),
        ("[ladder]\nbudget = 3" + BY_HAND, "ladder.rung and ladder.budget are both given, but only one can decide"),
        ("[[ladder.rung]]\nwidth = 0.25\ntrials = 8\nkeep = 1", "the last rung of a ladder must be a full training"),
        (
            "[[ladder.rung]]\nwidht = 0.25\n[[ladder.rung]]",
            "rung 1 of the ladder: unknown key 'widht'.*did you mean 'w",
        ),
        ('[[ladder.rung]]\nwidth = "half"\n[[ladder.rung]]', "rung 1 of the ladder: rung.width"),
        ("[[ladder.rung]]\nwidth = 2\n[[ladder.rung]]", "rung.width is 2, but it must be above 0 and at most 1"),
        ("[[ladder.rung]]\nwidth = 0.5\nkeep = 2\n[[ladder.rung]]", "rung 1 of the ladder has no trials"),
        ("[ladder]\nrung = 3", "a ladder is a list of rungs, not 3"),
        ("[ladder]\nrung = [3]", "rung 1 of the ladder must be a table"),
    ],
)
def test_what_is_wrong_is_one_sentence(extra: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read(extra)
    assert "\n" not in str(caught.value)


def test_a_budget_on_the_command_line_takes_the_place_of_the_files() -> None:
    asked = with_budget(read('[ladder]\nname = "paper"\nbudget = 9'), "90m")
    assert (asked.ladder.name, asked.ladder.budget) == ("paper", "90m")
    with pytest.raises(InputError, match="ladder.rung and ladder.budget are both given"):
        with_budget(read(BY_HAND), "3")
    with pytest.raises(InputError, match="budget is 'x', which is no number and no time"):
        with_budget(read(""), "x")


def test_a_budget_that_is_none_ends_the_command_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(SMALLEST)
    result = CliRunner().invoke(app, ["run", str(path), "--budget", "three"])
    assert result.exit_code == 2
    assert "budget is 'three', which is no number and no time" in re.sub(r"\s+", " ", result.output)
    assert not list(tmp_path.glob("runs*"))


def test_ladders_are_listed() -> None:
    result = CliRunner().invoke(app, ["list", "ladders"])
    assert result.exit_code == 0
    for name in ("default", "paper", "confirm-3", "full"):
        assert name in result.output


def test_a_configuration_with_rungs_is_kept_and_found_the_same(tmp_path: Path) -> None:
    content = tomllib.loads(SMALLEST + BY_HAND)
    content["run"]["folder"] = str(tmp_path / "run")
    for _ in range(2):
        keep_config(parse_config(content))
