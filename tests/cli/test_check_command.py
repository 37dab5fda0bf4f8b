"""``prunetune check`` as a person meets it, on the digits at their smallest."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunetune.cli import launch
from prunetune.cli.app import app
from prunetune.cli.config import parse_config
from prunetune.ladder.rung import Rung

CONFIG = """
[model]
name = "resnet8"
[data]
name = "digits"
image_size = 8
[pruning]
scorer = "uniform"
ratio = 0.25
[search]
n_trials = 2
epochs = 1
confirm = 1
optimizer = "random"
trial_pruner = "none"
[search.space.learning_rate]
low = 1e-3
high = 0.3
log = true
[search.space.batch_size]
choices = [128, 256]
[run]
folder = "FOLDER"
device = "cpu"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    path = folder / "config.toml"
    path.write_text(CONFIG.replace("FOLDER", str(folder / "run")))
    return path


@pytest.fixture(scope="module")
def printed(config: Path) -> str:
    done = CliRunner().invoke(app, ["check", str(config), "--configurations", "4"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_it_prints_what_it_measured_and_a_verdict(config: Path, printed: str) -> None:
    record = json.loads((config.parent / "run" / "check.json").read_text())
    for title in ("the proxy", "the full network", "the full network with another seed"):
        assert f"Checking: {title}: 4 trials; higher is better" in printed.splitlines()
    for title, key in (("proxy, full network", "correlation"), ("full network, again", "ceiling")):
        found = record[key]
        row = rf"^{title} +{found['value']:.2f} +{found['low']:.2f} to {found['high']:.2f} +4 *$"
        assert re.search(row, printed, re.MULTILINE)
    for place, entry in enumerate(record["configurations"], 1):
        scores = " +".join(re.escape(f"{entry[network]['score']:.4g}") for network in ("proxy", "base", "again"))
        assert re.search(rf"^{place} +{scores} ", printed, re.MULTILINE)
    assert printed.rstrip().endswith(record["verdict"]["sentence"])
    assert record["cost_ratio"] > 0
    assert "transfer 'norm-aware': learning rates on the proxy were corrected for its width" in printed


def test_again_it_trains_nothing_and_says_the_same(config: Path, printed: str) -> None:
    again = CliRunner().invoke(app, ["check", str(config), "--configurations", "4", "--json"])
    assert again.exit_code == 0
    assert again.stdout == (config.parent / "run" / "check.json").read_text()
    assert json.loads(again.stdout)["verdict"]["sentence"] in printed


def test_a_run_with_another_search_afterwards_leaves_it_as_it_is(config: Path, printed: str) -> None:
    assert printed
    folder = config.parent / "run"
    checked = (folder / "check.json").read_text()
    changed = config.with_name("changed.toml")
    changed.write_text(config.read_text().replace("n_trials = 2", "n_trials = 3"))
    done = CliRunner().invoke(app, ["run", str(changed)])
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "config.json").read_text())["search"]["n_trials"] == 3
    record = json.loads((folder / "result.json").read_text())
    assert (record["status"], sum(record["search"]["trials"].values())) == ("finished", 3)
    assert (folder / "check.json").read_text() == checked
    again = CliRunner().invoke(app, ["check", str(changed), "--configurations", "4"])
    assert again.exit_code == 0, again.output
    assert again.stdout.endswith(printed[printed.index("\nThe same configurations") :])
    assert again.stdout.count("4 done before") == 3  # on all three networks


@pytest.mark.parametrize(
    ("ladder", "checked"),
    [
        ("[[ladder.rung]]\nwidth = 0.5\ndata = 0.9\ntrials = 4\nkeep = 1\ncontrols = 1\n[[ladder.rung]]\n",
         Rung(width=0.5, data=0.9)),
        ('[ladder]\nname = "paper"\n', Rung(width=None)),
        ("", None),  # that is said by ``check``
    ],
    ids=["rungs", "a name", "nothing"],
)  # fmt: skip
def test_what_is_checked_is_the_first_rung_where_there_are_rungs(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ladder: str, checked: Rung | None
) -> None:
    asked: list[Rung] = []
    monkeypatch.setattr(launch, "check", lambda **given: asked.append(given["rung"]))
    content = tomllib.loads(config.read_text() + ladder)
    content["run"]["folder"] = str(tmp_path / "run")
    launch.launch_check(parse_config(content), configurations=4, epochs=None)
    assert asked == [checked]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--epochs", "2"], "check_epochs is 2, but a trial has 1 epochs; check for fewer"),
        (["--download"], "data.download is true, but digits cannot be downloaded"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(config: Path, options: list[str], complaint: str) -> None:
    refused = CliRunner().invoke(app, ["check", str(config), *options])
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"prunetune: {complaint}")
    assert len(refused.stderr.splitlines()) == 1


def test_another_model_in_the_same_folder_is_refused(config: Path, printed: str) -> None:
    assert printed
    other = config.with_name("other.toml")
    other.write_text(config.read_text().replace("resnet8", "resnet14"))
    refused = CliRunner().invoke(app, ["check", str(other)])
    assert refused.exit_code == 2
    assert "was started with model.name = 'resnet8', now it is 'resnet14'" in refused.stderr
