"""The README's code runs as it stands, block after block; so do the commands and tables of it and of the how-tos."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.config import parse_config

ROOT = Path(__file__).parents[1]
HOWTO = ROOT / "docs" / "howto"
README = ROOT / "README.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


PAGES_WITH_COMMANDS = (README, HOWTO / "install.md", HOWTO / "command-line.md", HOWTO / "several-machines.md")

TINY = """
[model]
name = "resnet8"
[data]
name = "digits"
image_size = 8
[search]
n_trials = 2
epochs = 1
[search.space.learning_rate]
low = 1e-3
high = 0.5
log = true
[compare]
scorers = ["uniform"]
sizes = [0.1]
rivals = ["less-data"]
configurations = 4
seeds = 1
truth_seeds = 1
[run]
folder = "runs/example"
"""
"""A configuration that takes seconds, in the place of the one that the pages name."""


SHORTER = {'"epochs": 9': '"epochs": 2', 'Search(direction="maximize")': 'Search(direction="maximize", n_trials=4)'}
"""The rest is as it stands."""


def test_the_blocks_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    assert all(long in text for long in SHORTER)
    names: dict[str, Any] = {}
    scores = []
    for block in blocks(README, "python"):
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, "<README.md>", "exec"), names)  # not the file, whose lines are others
        if "prunetune.tune(" in block:
            scores.append(names["result"].score)
    (score,) = scores
    printed = capsys.readouterr().out
    assert f"{score}" in printed
    assert "layer4.1.conv2" in printed
    assert json.loads((tmp_path / "runs/first/result.json").read_text())["winner"]["score"] == score


def test_the_readme_is_one_page() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 150


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the configuration that the commands name; their environment is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "run.toml").write_text(TINY)
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def lines_of(block: str) -> list[list[str]]:
    """The commands of a block, in words; to install it, `make demo` and `make test` are not ours to do here."""
    words = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [each for each in words if each and each[0] not in ("git", "python3", "pip", "make")]


def help_examples() -> list[list[str]]:
    """The command in the help text of every command."""
    texts = [
        inspect.cleandoc(command.callback.__doc__ or "") for command in app.registered_commands if command.callback
    ]
    found = [re.findall(r"^Example: (.*)$", text, re.MULTILINE) for text in texts]
    assert all(len(each) == 1 for each in found)
    return [shlex.split(each[0].replace("runs/demo", "runs/example")) for each in found]


def test_the_commands_work_one_after_another(shell: Path) -> None:
    """Those of the README and of the how-tos, then those in the help texts that are not among them.

    But for the demo, which takes minutes, and the dashboard, a server, which tests/cli/test_dashboard.py starts.
    """
    asked: list[list[str]] = []
    for page in PAGES_WITH_COMMANDS:
        of_the_page = [words for block in blocks(page, "sh") for words in lines_of(block)]
        asked += [words for words in of_the_page if words[0] == "export" or words not in asked]
        asked += [["unset", "PRUNETUNE_STUDY"]]
    asked += [words for words in help_examples() if words not in asked and words[1] not in ("demo", "dashboard")]
    assert {words[1] for words in asked if words[0] == "prunetune"} >= {
        "prune", "init", "check", "compare", "run", "report", "worker", "list",
    }  # fmt: skip
    for words in asked:
        if words[0] == "export":  # a storage of the reader's: here the one of the run
            name = words[1].partition("=")[0]
            os.environ[name] = f"journal:///{shell / 'runs/example/study.log'}"
            continue
        if words[0] == "unset":
            os.environ.pop(words[1], None)
            continue
        assert words[0] == "prunetune"
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
    assert (shell / "plan.json").exists()
    assert (shell / "mine.toml").exists()
    assert json.loads((shell / "runs/example/result.json").read_text())["status"] == "finished"
    table = re.findall(r"^\| (`.*`) \|", (HOWTO / "run-folder.md").read_text(encoding="utf-8"), re.MULTILINE)
    files = [name for row in table for name in re.findall(r"`([\w.]+)`", row)]
    assert {"report.html", "study.log"} < set(files)
    assert all((shell / "runs/example" / name).exists() for name in files), files


def test_what_is_installed_first_is_a_clone_with_extras_that_there_are() -> None:
    """No page says `pip install prunetune` to who has nothing yet: it is on no package index."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.py")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"pip install[^\n`]*?prunetune(?:\[([\w,-]+)\])?", text)
        assert all(named), f"{page}: pip install prunetune"
        assert {extra for each in named for extra in each.split(",")} <= extras.keys(), page
    for first in ("README.md", "docs/index.md", "docs/tutorial.md", "docs/howto/install.md"):
        installs = re.findall(r"pip install '?([^'\s`]+)", (ROOT / first).read_text(encoding="utf-8"))
        assert installs[0] == "./prunetune[vision]", first


def test_the_check_prints_what_is_shown(shell: Path) -> None:
    """The figures are another run's; the lines, their heads and the order are these."""
    (block,) = blocks(HOWTO / "check-the-proxy.md", "console")
    command, *shown = block.splitlines()
    words = shlex.split(command.removeprefix("$ "))
    smaller = {"--configurations": "4", "--epochs": "1"}
    words = [smaller.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    done = CliRunner().invoke(app, words[1:], catch_exceptions=False, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    heads = [re.split(r"\d", line)[0].strip() for line in shown if not line.startswith(("…", "use this", "it is"))]
    printed = [" ".join(line.split()) for line in done.output.splitlines()]
    for head in heads:
        assert any(line.startswith(" ".join(head.split())) for line in printed), (head, done.output)
    assert re.search(r"^(use this|use a larger|don't use|too few)", done.output, re.MULTILINE), done.output


def test_a_network_of_ones_own_in_a_configuration() -> None:
    (block,) = blocks(HOWTO / "command-line.md", "toml")
    tables = tomllib.loads(block)
    config = parse_config({**tables, "run": {"folder": "runs/own"}})
    assert config.code == ("my_project:build", "my_project:train")


def test_a_plugin_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point is the one of examples/plugin, which the contract's line then finds by name."""
    page = HOWTO / "write-a-scorer.md"
    (asked,) = blocks(page, "toml")
    (name,) = tomllib.loads(asked)["project"]["entry-points"]["prunetune.scorers"]
    real = tomllib.loads((ROOT / "examples/plugin/pyproject.toml").read_text())["project"]["entry-points"]
    assert name in real["prunetune.scorers"]
    names: dict[str, Any] = {}
    (block,) = blocks(page, "py")
    exec(compile(block, page.name, "exec"), names)
    (suite,) = [value for each, value in names.items() if each.startswith("Test")]
    assert [mark.args[1] for mark in suite.pytestmark] == [(name,)]
