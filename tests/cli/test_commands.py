"""The commands that need no run: what they print, write, and say about mistakes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.config import read_config
from prunetune.engine import PruningPlan, apply
from prunetune.engine.cost import cost_of
from prunetune.pruning import fit as shrinking
from prunetune.zoo import models

ROOT = Path(__file__).parents[2]
MODULE = """
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

def two():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.linear = nn.Embedding(5, 8), nn.Linear(8, 2)

        def forward(self, tokens, scale):
            return self.linear(self.embedding(tokens) * scale)

    return Two()

def nothing():
    return 3

def needs(an_argument):
    return net()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_commands.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def ask(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.stdout, done.stderr


def test_a_network_of_ones_own_is_cut_and_its_plan_fits_a_fresh_one(tmp_path: Path) -> None:
    status, out, _ = ask(
        "prune", "mine_for_commands:net", "-i", "1,4", "--scorer", "magnitude", "--ratio", "0.25", "-o", "plan.json"
    )
    assert status == 0
    assert re.search(r"0\.weight\s+16x4\s+->\s+4x4", out)
    assert "The plan is in plan.json" in out
    from mine_for_commands import net  # type: ignore[import-not-found]

    proxy = apply(PruningPlan.load(tmp_path / "plan.json"), net())
    assert proxy(torch.zeros(1, 4)).shape == (1, 2)
    assert sum(p.numel() for p in proxy.parameters()) == 4 * 4 + 4 + 4 * 2 + 2


def test_json_is_all_that_is_printed_and_says_what_was_cut() -> None:
    asked = [
        "prune",
        "mine_for_commands:two",
        "-i",
        "3,6:int64",
        "-i",
        "3,6,1",
        "--scorer",
        "uniform",
        "--ratio",
        "0.5",
    ]
    status, out, err = ask(*asked, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert status == 0
    assert found["layers"][0] == {"name": "embedding.weight", "before": [5, 8], "after": [5, 4]}
    assert found["cost"]["base"]["parameters"] == 5 * 8 + 8 * 2 + 2
    assert found["cost"]["proxy"]["parameters"] == 5 * 4 + 4 * 2 + 2


def test_what_a_transfer_rule_makes_of_every_parameter_is_shown_on_request() -> None:
    """By table 3 of Tensor Programs V, of a quarter of the width."""
    asked = ["prune", "mine_for_commands:net", "-i", "1,4", "--scorer", "uniform", "--ratio", "0.25"]
    assert "init" not in ask(*asked)[1]
    status, out, err = ask(*asked, "--transfer", "mup")
    assert status == 0, err
    rows = {line.split()[0]: line.split()[1:] for line in out.partition("transfer 'mup'")[2].splitlines()[2:]}
    assert rows == {
        "0.weight": ["1", "0.25", "matrix", "0.25", "1", "1"],
        "0.bias": ["1", "0.25", "bias", "0.25", "1", "1"],
        "2.weight": ["0.25", "1", "matrix", "4", "4", "2"],
        "2.bias": ["1", "1", "bias", "1", "1", "1"],
    }
    status, out, err = ask(*asked, "--transfer", "mup", "--json")
    assert json.loads(out)["transfer"][2] == {
        "parameter": "2.weight",
        "fan_in": 0.25,
        "fan_out": 1.0,
        "kind": "matrix",
        "lr sgd": 4.0,
        "lr adam": 4.0,
        "init": 2.0,
    }
    status, _, err = ask(*asked, "--transfer", "mupp")
    assert status != 0
    assert "did you mean 'mup'" in err


@pytest.mark.parametrize("machine", [False, True])
def test_measuring_is_told_on_standard_error_as_it_goes(machine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(model: nn.Module) -> float:
        """As many seconds as it has parameters."""
        return float(sum(p.numel() for p in model.parameters()))

    @contextlib.contextmanager
    def timer(base: nn.Module, inputs: object) -> Iterator[Callable[..., tuple[float, float]]]:
        yield lambda candidate, **_: (size(base), size(candidate))

    monkeypatch.setattr(shrinking, "step_timer", timer)
    monkeypatch.setattr(shrinking, "predicted_seconds", lambda graph, keep: cost_of(graph, keep).parameters)
    asked = ["mine_for_commands:net", "-i", "1,4", "--scorer", "magnitude", "--speedup", "2"]
    status, out, err = ask("prune", *asked, *["--json"] * machine)
    assert status == 0
    assert "training steps" not in out
    told = {line.partition(":")[0] for line in err.splitlines()[1:]}
    assert told == (set() if machine else {"measured training steps"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine_for_commands", "-i", "1,4"], "the model is 'mine_for_commands', but it must be module:function"),
        (["no_such_module_here:net", "-i", "1,4"], "no_such_module_here cannot be imported (ModuleNotFoundError"),
        (["mine_for_commands:nt", "-i", "1,4"], "mine_for_commands has no 'nt'"),
        (["mine_for_commands:nothing", "-i", "1,4"], "must return a torch.nn.Module; it returned int"),
        (["mine_for_commands:needs", "-i", "1,4"], "it is called without arguments"),
        (["mine_for_commands:net"], "the input is missing: give the shape of one batch"),
        (["mine_for_commands:net", "-i", "1,x"], "--input is '1,x', but it must be a shape such as 1,3,224,224"),
        (["mine_for_commands:net", "-i", "1,4:int65"], "--input is '1,4:int65', but it must be a shape"),
        (["mine_for_commands:net", "-i", "1,5"], "could not be run on the example inputs"),
        (["mine_for_commands:net", "-i", "1,4", "--scorer", "synflw"], "did you mean 'synflow'?"),
        (["mine_for_commands:net", "-i", "1,4", "--scorer", "snip"], "snip needs labelled data; give batches"),
        (["mine_for_commands:net", "-i", "1,4", "--flops", "0.5", "--ratio", "0.5"], "give one budget, not 2"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(arguments: list[str], message: str) -> None:
    status, out, err = ask("prune", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("prunetune: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_init_begins_a_configuration_that_is_valid_and_overwrites_nothing(tmp_path: Path) -> None:
    status, out, _ = ask("init")
    path = tmp_path / "prunetune.toml"
    assert status == 0
    assert out == "prunetune.toml is written; change it, then: prunetune run prunetune.toml\n"
    assert path.read_bytes() == (ROOT / "examples" / "run.toml").read_bytes()
    assert read_config(path).model.name in models
    status, _, err = ask("init")
    assert status == 2
    assert "prunetune.toml exists already" in err


def test_report_says_where_there_is_no_run(tmp_path: Path) -> None:
    status, _, err = ask("report", str(tmp_path))
    assert status == 2
    assert "give the folder of a prunetune run" in err


@pytest.mark.parametrize("command", [[], ["run"], ["prune"], ["worker"], ["init"], ["report"], ["demo"], ["list"]])
def test_every_help_has_an_example_that_is_a_command_there_is(command: list[str]) -> None:
    status, out, _ = ask(*command, "--help")
    assert status == 0
    if command:
        example = re.search(r"Example: prunetune (\w+)", out)
        assert example is not None
        assert example[1] == command[0]
