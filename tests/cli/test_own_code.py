"""A network and a train function of one's own, by their names in a configuration: run, check, compare and worker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from prunetune.backends import Categorical, Float, Int
from prunetune.cli.app import app
from prunetune.cli.config import parse_config, read_config, search_space
from prunetune.cli.job import prepare
from prunetune.cli.local_workers import LocalWorkers
from prunetune.errors import InputError
from prunetune.events import PhaseStarted, silent

MODULE = """
import torch
from torch import nn

KEYWORDS = {"x": torch.zeros(3, 6)}


def batch():
    return torch.zeros(5, 6)


def net():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))


def smaller():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def images():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def few_classes():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 9))


def train(model, params, report):
    assert params["act"] in ("relu", "gelu")
    loss = (params["lr"] - 0.01) ** 2 + params["layers"]
    for epoch in range(1, report.epochs + 1):
        with torch.no_grad():
            next(model.parameters()).mul_(1 + params["lr"])
        report(loss, epoch)
    return loss


def evaluate(model):
    return {"size": sum(p.numel() for p in model.parameters())}


def one_argument(model):
    return 0.0
"""
CONFIG = """
[model]
name = "mine_for_jobs:net"
inputs = ["4,6"]
[train]
function = "mine_for_jobs:train"
evaluate = "mine_for_jobs:evaluate"
[search]
direction = "minimize"
n_trials = 4
epochs = 2
confirm = 1
optimizer = "random"
[search.space]
lr = {low = 1e-3, high = 1.0, log = true}
layers = {low = 1, high = 3}
act = {choices = ["relu", "gelu"]}
[pruning]
ratio = 0.5
[run]
folder = "run"
device = "cpu"
"""
COMPARE = """
[compare]
scorers = ["uniform"]
rivals = ["fewer-epochs"]
smaller = ["mine_for_jobs:smaller"]
configurations = 4
seeds = 1
truth_seeds = 1
confirm = 1
"""
BUILT_IN = """
[model]
name = "mine_for_jobs:images"
[data]
name = "digits"
[run]
folder = "run"
device = "cpu"
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_jobs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine_for_jobs", raising=False)


def tables(text: str, *changes: tuple[str, str]) -> dict[str, Any]:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return tomllib.loads(text)


def ask(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_numbers_and_choices_are_searched_as_they_are_written() -> None:
    assert dict(search_space(parse_config(tables(CONFIG)))) == {
        "lr": Float(1e-3, 1.0, log=True),
        "layers": Int(1, 3),
        "act": Categorical(["relu", "gelu"]),
    }
    every = tables(
        CONFIG, ("layers = {low = 1, high = 3}", "a = {low = 1, high = 3.0}\nb = {choices = [0, 2.5, true]}")
    )
    space = search_space(parse_config(every))
    assert space["a"] == Float(1.0, 3.0)
    assert space["b"] == Categorical([0, 2.5, True])


@pytest.mark.parametrize(
    ("inputs", "shape"), [('["4,6"]', (4, 6)), ('"mine_for_jobs:batch"', (5, 6)), ('"mine_for_jobs:KEYWORDS"', (3, 6))]
)
def test_inputs_are_shapes_or_what_somebody_gives(inputs: str, shape: tuple[int, ...]) -> None:
    job = prepare(parse_config(tables(CONFIG, ('["4,6"]', inputs))))
    found: Any = job.example_inputs
    found = found["x"] if isinstance(found, dict) else found
    assert isinstance(found, torch.Tensor)
    assert found.shape == shape


def test_several_inputs_are_arguments_in_turn() -> None:
    job = prepare(parse_config(tables(CONFIG, ('["4,6"]', '["4,6", "4,2:int64"]'))))
    first, second = job.example_inputs
    assert (first.shape, second.shape, second.dtype) == ((4, 6), (4, 2), torch.int64)


def test_a_run_a_check_and_a_comparison(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(CONFIG)
    ask("check", "own.toml", "--configurations", "4")
    ask("run", "own.toml")
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["direction"] == "minimize"
    assert record["status"] == "finished"
    assert record["winner"]["score"] >= 1  # the least number of layers
    assert record["test"] == {"size": 6 * 16 + 16 + 16 * 2 + 2}
    assert "is finished already" in ask("run", "own.toml")
    (tmp_path / "compare.toml").write_text(CONFIG.replace('"run"', '"compared"') + COMPARE)
    ask("compare", "compare.toml")
    found = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert any("mine_for_jobs:smaller" in row["name"] for row in found["rows"])


def test_another_train_function_of_the_same_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(CONFIG)
    ask("run", "own.toml")
    (tmp_path / "mine_for_jobs.py").write_text(MODULE.replace("- 0.01", "- 0.02"))
    monkeypatch.delitem(sys.modules, "mine_for_jobs")
    done = CliRunner().invoke(app, ["run", "own.toml"])
    assert done.exit_code == 2
    assert "was started with another train function" in done.stderr


def test_a_network_of_ones_own_in_the_built_in_training(tmp_path: Path) -> None:
    job = prepare(parse_config(tables(BUILT_IN)))
    assert isinstance(job.model_fn(), nn.Module)
    assert job.direction == "maximize"
    with pytest.raises(InputError, match=r"few_classes gives \(2, 9\) for 2 images, but the built-in training"):
        prepare(parse_config(tables(BUILT_IN, (":images", ":few_classes"))))
    with pytest.raises(InputError, match=r"net does not run on images of the shape \(2, 1, 8, 8\) \(RuntimeError"):
        prepare(parse_config(tables(BUILT_IN, (":images", ":net"))))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"mine_for_jobs:net"', '"resnet8"', "train.function is 'mine_for_jobs:train', but resnet8 takes its classes"),
        ('inputs = ["4,6"]', "", "model.inputs is missing: give one batch as the network takes it, such as"),
        ('["4,6"]', "[]", "model.inputs is [], but it must be a table or list with at least one entry"),
        ('["4,6"]', "3", "model.inputs is 3, but it must be a list of shapes, or module:function as text"),
        ("[run]", '[data]\nname = "digits"\n[run]', "[data] is for the built-in training, but train.function brings"),
        ("evaluate =", "momentum = 0.9\nevaluate =", "train.momentum is for the built-in training, and nothing hands"),
        ('direction = "minimize"', "", "search.direction is missing: only you know whether mine_for_jobs:train"),
        ('"minimize"', '"less"', "search.direction is 'less', but it must be 'maximize' or 'minimize'"),
        ('["relu", "gelu"]', "[[1]]", "search.space.act.choices is [1], but it must be a number, text in quotes, true"),
        ("high = 1.0", 'high = "1"', "search.space.lr.high is '1', but it must be a number"),
        ("[run]", '[compare]\nsmaller = ["resnet8"]\n[run]', "compare.smaller: resnet8 takes its classes from [data]"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(old: str, new: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        parse_config(tables(CONFIG, (old, new)))


def test_steps_of_an_epoch_reach_the_planner(tmp_path: Path) -> None:
    config = parse_config(tables(CONFIG, ("evaluate =", "steps_per_epoch = 9\nevaluate =")))
    assert prepare(config).steps_per_epoch == 9
    assert prepare(parse_config(tables(CONFIG))).steps_per_epoch is None


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ('[train]\nevaluate = "a:b"', "train.evaluate goes with train.function, which is missing"),
        ("[train]\nsteps_per_epoch = 9", "train.steps_per_epoch goes with train.function, which is missing"),
        ('[search]\ndirection = "minimize"', "search.direction is 'minimize', but the built-in training returns an"),
    ],
)
def test_what_only_a_train_function_of_ones_own_reads(extra: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        parse_config(tables(BUILT_IN + extra))
    with pytest.raises(InputError, match=re.escape("model.inputs goes with train.function, which is missing")):
        parse_config(tables(BUILT_IN, ("[data]", 'inputs = ["1,1,8,8"]\n[data]')))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (":net", ":nett", "mine_for_jobs:nett: mine_for_jobs has no 'nett'"),
        ("mine_for_jobs:net", "no_such_module_here:net", "no_such_module_here cannot be imported"),
        (
            '"mine_for_jobs:train"',
            '"train"',
            "train.function is 'train', but it must be module:function, for example",
        ),
        (":train", ":one_argument", "mine_for_jobs:one_argument is called as train(model, params, report), which"),
        ('["4,6"]', '["4;6"]', "model.inputs is '4;6', but it must be a shape such as 1,3,224,224"),
        (":evaluate", ":evaluat", "mine_for_jobs has no 'evaluat'"),
    ],
)
def test_code_that_is_not_there_is_one_sentence(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(CONFIG.replace(old, new))
    done = CliRunner().invoke(app, ["run", "own.toml"])
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_no_study_makes_a_worker_run_code_that_no_file_of_its_own_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    (tmp_path / "own.toml").write_text(CONFIG.replace("n_trials", f'storage = "{url}"\nn_trials'))
    ask("run", "own.toml")
    for source in (["--study", url], ["run"]):
        refused = CliRunner().invoke(app, ["worker", *source])
        assert refused.exit_code == 2
        sentence = "the search 'run' runs code that its configuration names; join it with that configuration"
        assert sentence in refused.stderr
    assert "0 were trained here" in ask("worker", "own.toml")
    (tmp_path / "mine_for_jobs.py").write_text(MODULE.replace("- 0.01", "- 0.02"))
    del sys.modules["mine_for_jobs"]
    refused = CliRunner().invoke(app, ["worker", "own.toml"])
    assert "was started with another train function" in refused.stderr


def test_workers_of_this_machine_are_handed_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(CONFIG)
    (tmp_path / "run").mkdir()
    commands: list[list[str]] = []

    class Started:
        returncode = 0

        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)

        def wait(self, seconds: float | None = None) -> int:
            return 0

        terminate = kill = wait

    monkeypatch.setattr(subprocess, "Popen", Started)
    with LocalWorkers(1, read_config(Path("own.toml")), silent) as crowd:
        crowd(PhaseStarted("search", total=4, done=0))
    assert commands[0][1:] == ["-m", "prunetune", "worker", "--name", "search", "own.toml", "--device", "cpu"]


def test_workers_without_a_file_are_refused() -> None:
    with pytest.raises(InputError, match="workers run mine_for_jobs:net only by a configuration file that names it"):
        LocalWorkers(1, parse_config(tables(CONFIG)), silent)
