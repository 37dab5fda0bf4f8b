"""The README's code runs as it stands, block after block; what is the reader's own (`MyNet`, a database) is given."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.config import parse_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(*languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", README, re.DOTALL)


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
"""A configuration that takes seconds, in the place of the one that the README names."""


SHORTER = {"epochs=20": "epochs=2", "sizes=(0.05, 0.2))": "sizes=(0.05, 0.2), configurations=6)"}
"""The rest is as it stands."""


def readers_own() -> dict[str, Any]:
    """A network with images of the README's shape, whose brightness says the class, and the functions that it calls."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (16,), generator=generator)
    images = torch.randn(16, 3, 32, 32, generator=generator) * 0.1 + labels.view(-1, 1, 1, 1)

    def build() -> nn.Module:
        first, second = nn.Conv2d(3, 16, 1, stride=8), nn.Conv2d(16, 64, 4)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))

    def train_one_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def evaluate(model: nn.Module) -> float:
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    return {"MyNet": build, "train_one_epoch": train_one_epoch, "evaluate": evaluate}


def test_the_blocks_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert all(long in README for long in SHORTER)
    names, scores = readers_own(), {}
    for number, text in enumerate(blocks("python")):
        block = text
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, "README.md", "exec"), names)
        if "prunetune.tune(" in block:
            scores[number] = names["result"].score
    (score,) = scores.values()
    assert "layer4.1.conv2" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs/mine/result.json").read_text())["winner"]["score"] == score
    assert (tmp_path / "runs/compare/compare.html").stat().st_size > 10_000
    assert (tmp_path / "groups.svg").stat().st_size > 1000
    assert names["cost"](names["graph"], names["plan"]).parameters == sum(
        p.numel() for p in names["again"].parameters()
    )
    both = names["apply"](names["both"], names["model"])
    assert sum(p.numel() for p in both.parameters()) == names["second"].cost.proxy.parameters


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the configuration that the README's commands name; their environment is forgotten afterwards."""
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
    """The README's, then those in the help texts that are not in it.

    But for the demo, which takes minutes, and the dashboard, a server, which tests/cli/test_dashboard.py starts.
    """
    asked = [words for block in blocks("sh") for words in lines_of(block)]
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
            del os.environ[words[1]]
            continue
        assert words[0] == "prunetune"
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
    assert (shell / "plan.json").exists()
    assert (shell / "mine.toml").exists()
    assert json.loads((shell / "runs/example/result.json").read_text())["status"] == "finished"


def test_what_is_installed_first_is_a_clone_with_extras_that_there_are() -> None:
    """No page says `pip install prunetune` to who has nothing yet: it is on no package index."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.py")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"pip install[^\n`]*?prunetune(?:\[([\w,-]+)\])?", text)
        assert all(named), f"{page}: pip install prunetune"
        assert {extra for each in named for extra in each.split(",")} <= extras.keys(), page
    for first in ("README.md", "docs/index.md", "docs/tutorial.md"):
        installs = re.findall(r"pip install '?([^'\s`]+)", (ROOT / first).read_text(encoding="utf-8"))
        assert installs[0] == "./prunetune[vision]", first


def test_the_check_prints_what_is_shown(shell: Path) -> None:
    """The figures are another run's; the lines, their heads and the order are these."""
    (block,) = blocks("console")
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
    import tomllib

    tables = tomllib.loads(blocks("toml")[0])
    config = parse_config({**tables, "run": {"folder": "runs/own"}})
    assert config.code == ("my_project:build", "my_project:train")


def test_a_plugin_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point is the one of examples/plugin, which the contract's line then finds by name."""
    import tomllib

    (_, asked) = blocks("toml")
    (name,) = tomllib.loads(asked)["project"]["entry-points"]["prunetune.scorers"]
    real = tomllib.loads((ROOT / "examples/plugin/pyproject.toml").read_text())["project"]["entry-points"]
    assert name in real["prunetune.scorers"]
    names: dict[str, Any] = {}
    (block,) = blocks("py")
    exec(compile(block, "README.md", "exec"), names)
    (suite,) = [value for each, value in names.items() if each.startswith("Test")]
    assert [mark.args[1] for mark in suite.pytestmark] == [(name,)]
