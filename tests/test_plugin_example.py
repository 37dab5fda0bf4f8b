"""The example of a plugin, installed as a package of its own; beside it a broken one, and one that takes its name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"

PRUNE = """
import sys, torch, prunetune
from prunetune.errors import PluginError
from torch import nn
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
data = [(torch.randn(16, 1, 8, 8), torch.arange(16) % 4)]
for name in sys.argv[1:]:
    try:
        print(name, prunetune.prune(net, data[0][0], scorer=name, data=data, ratio=0.5).model[0].out_channels)
    except PluginError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed into, as pip does it, from a copy: building leaves no trace."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    target = ["--no-build-isolation", "--target", str(folder / "site"), str(source)]
    done = python(*command, *target, folders=[])
    assert done.returncode == 0, done.stderr
    return folder / "site"


def python(*args: str, folders: list[Path], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python that finds what is in these folders, too."""
    path = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=environment, cwd=cwd)


def distribution(folder: Path, name: str, entries: str, module: str) -> Path:
    """A folder with another installed distribution: its metadata, and one module."""
    info = folder / f"{name}-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(entries)
    (folder / f"{name}.py").write_text(module)
    return folder


def rows(listed: str) -> dict[str, list[str]]:
    """The columns after the name, by the name."""
    lines = [re.split("  +", line, maxsplit=3) for line in listed.splitlines()]
    return {name: columns for name, *columns in lines}


def pruned(*scorers: str, folders: list[Path]) -> list[str]:
    """For each scorer its name and the channels it left of eight, or why it cannot be used."""
    done = python("-c", PRUNE, *scorers, folders=folders)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_examples_own_tests(installed: Path) -> None:
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folders=[installed], cwd=EXAMPLE)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_its_names_are_listed_with_their_distribution(installed: Path) -> None:
    scorers = rows(python("-m", "prunetune", "list", "scorers", folders=[installed]).stdout)
    assert scorers["apoz"][:2] == ["labelled data, a trained network", "prunetune-example 1.2"]
    assert scorers["apoz"][2].startswith("The share of a channel's activations after ReLU")
    assert scorers["fpgm"][:2] == ["-", "prunetune"]
    optimizers = rows(python("-m", "prunetune", "list", "optimizers", folders=[installed]).stdout)
    assert optimizers["halton"][:2] == ["-", "prunetune-example 1.2"]


def test_its_names_work_wherever_a_name_does(installed: Path, tmp_path: Path) -> None:
    assert pruned("apoz", "apoz+max", folders=[installed]) == ["apoz 4", "apoz+max 4"]
    config = tmp_path / "run.toml"
    config.write_text(
        "model.name = 'resnet8'\ndata = {name = 'digits', image_size = 8}\npruning = {scorer = 'apozz'}\n"
        "search.optimizer = 'halton'\nrun.folder = 'run'\n"
    )
    refused = python("-m", "prunetune", "run", str(config), folders=[installed], cwd=tmp_path)
    assert refused.returncode == 2
    assert "pruning.scorer: unknown scorer 'apozz' (did you mean 'apoz'?); known: 3sp, apoz, " in refused.stderr


def test_a_broken_plugin_names_itself_and_breaks_nothing_else(installed: Path, tmp_path: Path) -> None:
    entries = "[prunetune.scorers]\nhrank = ranks:HRank\n[prunetune.optimizers]\ncma = ranks:cma\n"
    folders = [installed, distribution(tmp_path, "ranks", entries, "import nothing_of_that_name\n")]
    sentence = (
        "the scorer 'hrank' of ranks 0.3 (entry point 'ranks:HRank') cannot be used: it cannot be imported "
        "(ModuleNotFoundError: No module named 'nothing_of_that_name'); uninstall or update that package"
    )
    listed = rows(python("-m", "prunetune", "list", "scorers", folders=folders).stdout)
    assert listed["hrank"] == ["-", "ranks 0.3", sentence]
    assert {"apoz", "synflow", "magnitude"} < set(listed)
    every = python("-m", "prunetune", "list", folders=folders)
    assert every.returncode == 0
    assert "hrank" in every.stdout
    assert "cannot be used" not in every.stdout  # it was not tried
    assert pruned("apoz", "hrank", "magnitude", folders=folders) == ["apoz 4", sentence, "magnitude 4"]


def test_a_name_that_is_taken_is_an_error_that_names_both(installed: Path, tmp_path: Path) -> None:
    entries = "[prunetune.scorers]\napoz = zeros:Apoz\nmagnitude = zeros:Apoz\n"
    module = "from prunetune_example.apoz import Apoz\n"
    folders = [installed, distribution(tmp_path, "zeros", entries, module)]
    listed = rows(python("-m", "prunetune", "list", "scorers", folders=folders).stdout)
    said = pruned("apoz", "magnitude", "magnitude-l2", folders=folders)
    assert said[0].startswith("the scorer 'apoz' is claimed by prunetune-example 1.2 and by zeros 0.3, and only one")
    assert said[1].startswith("the scorer 'magnitude' is claimed by prunetune and by zeros 0.3, and only one")
    assert said[2] == "magnitude-l2 4"
    assert listed["apoz"] == ["-", "prunetune-example 1.2, zeros 0.3", said[0]]
    assert listed["magnitude"] == ["-", "prunetune, zeros 0.3", said[1]]
