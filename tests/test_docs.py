"""The docs: the site builds without a warning, its Python runs, and the tutorial works as it is typed."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
import torch
from torch import nn

import prunetune

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for folder in (DOCS, DOCS / "howto", DOCS / "how") for path in folder.glob("*.md"))
WITH_CODE = [path for path in PAGES if re.search(r"^```py(thon)?$", path.read_text(encoding="utf-8"), re.MULTILINE)]
COMMANDS = {"python": sys.executable, "prunetune": f"{sys.executable} -m prunetune"}
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for page in (
        "tutorial.html",
        "howto/write-a-rule.html",
        "how/index-algebra.html",
        "api/index.html",
        "science.html",
    ):
        assert f'href="{page}"' in index
    assert "prunetune.tune" in (tmp_path / "site" / "api" / "searching.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda path: path.stem)
def test_the_python_on_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Block after block; ``py`` is what needs something of the reader's own."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "a_page"}
    if page.stem in READERS_OWN:
        names |= READERS_OWN[page.stem](tmp_path, monkeypatch)
    text = page.read_text(encoding="utf-8")
    for long, short in SHORTER.get(page.stem, {}).items():
        assert long in text
        text = text.replace(long, short)
    for block in re.findall(r"```py(?:thon)?\n(.*?)```", text, re.DOTALL):
        exec(compile(block, page.name, "exec"), names)
    if page.stem in AFTERWARDS:
        AFTERWARDS[page.stem](tmp_path, names, capsys.readouterr().out)


def _a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A run to look at, and no browser to show its pictures in."""
    search = prunetune.Search(direction="maximize", n_trials=2, confirm=1)
    prunetune.tune(*_PROBLEM, **_asked(folder / "runs" / "demo"), search=search)
    monkeypatch.setattr(plotly.graph_objects.Figure, "show", lambda figure: figure.to_json())
    return {}


def _a_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A network, how to train it, and a storage."""
    build, train, space = _PROBLEM
    url = f"sqlite:///{folder / 'shared.db'}"
    own = {"MyNet": build, "train": train, "space": space, "URL": url, "others": _asked(folder / "run")}
    return {"prunetune": prunetune, **own}


def _a_run_that_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A run that was finished, and a wider space."""
    build, train, space = _PROBLEM
    others = {name: value for name, value in _asked(folder).items() if name != "run_dir"}
    search = prunetune.Search(direction="maximize", n_trials=8, confirm=3)
    prunetune.tune(*_PROBLEM, run_dir="runs/mine", search=search, **others)
    wider = {"learning_rate": prunetune.Float(1e-4, 2.0, log=True)}
    own = {"MyNet": build, "train": train, "space": space, "wider": wider, "others": others}
    return {"prunetune": prunetune, "json": json, "Path": Path, **own}


def _a_ladder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A network, how to train it, and which way its score goes."""
    build, train, space = _PROBLEM
    others = {name: value for name, value in _asked(folder).items() if name != "run_dir"}
    others["search"] = prunetune.Search(direction="maximize")
    return {"prunetune": prunetune, "MyNet": build, "train": train, "space": space, "others": others}


def _a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A network with images of the page's shape, whose brightness says the class, and the functions that it calls."""
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


def _a_network_and_its_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the page on one's own network defines."""
    names = _a_network(folder, monkeypatch)
    (block,) = re.findall(r"```py\n(.*?)```", (DOCS / "howto" / "own-network.md").read_text("utf-8"), re.DOTALL)
    before, _, _ = block.partition("result = prunetune.tune(")
    exec(compile(before, "own-network.md", "exec"), names)
    return names


def _asked(run_dir: Path) -> dict[str, Any]:
    return {"example_inputs": torch.ones(4, 8), "epochs": 1, "run_dir": run_dir}


def _train(model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
    optimizer = torch.optim.SGD(report.param_groups(model, lr=params["learning_rate"]))
    inputs = torch.eye(8)
    for epoch in range(1, report.epochs + 1):
        optimizer.zero_grad()
        loss = (model(inputs) - inputs).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(-loss.item(), epoch)
    return -loss.item()


_PROBLEM = (
    lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)),
    _train,
    {"learning_rate": prunetune.Float(1e-3, 1.0, log=True)},
)
READERS_OWN: dict[str, Callable[[Path, pytest.MonkeyPatch], dict[str, object]]] = {
    "check-the-proxy": _a_network_and_its_training,
    "cost": _a_ladder,
    "go-on": _a_run_that_goes_on,
    "index": _a_network,
    "own-network": _a_network,
    "read-the-report": _a_run,
    "several-machines": _a_search,
}


SHORTER = {
    "index": {'"epochs": 20': '"epochs": 2'},
    "own-network": {"epochs=20": "epochs=2"},
    "check-the-proxy": {'"epochs": 20': '"epochs": 2', "0.2))": "0.2), configurations=6)"},
}
"""The rest of a page is as it stands."""


def _a_result(folder: Path, names: dict[str, Any], printed: str) -> None:
    winner = json.loads((folder / "runs/mine/result.json").read_text())["winner"]
    assert winner["score"] == names["result"].score


def _a_comparison(folder: Path, names: dict[str, Any], printed: str) -> None:
    assert (folder / "runs/compare/compare.html").stat().st_size > 10_000


def _plans(folder: Path, names: dict[str, Any], printed: str) -> None:
    def parameters(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert "layer4.1.conv2" in printed
    assert (folder / "groups.svg").stat().st_size > 1000
    assert names["cost"](names["graph"], names["plan"]).parameters == parameters(names["again"])
    both = names["apply"](names["both"], names["model"])
    assert parameters(both) == names["second"].cost.proxy.parameters


AFTERWARDS: dict[str, Callable[[Path, dict[str, Any], str], None]] = {
    "own-network": _a_result,
    "check-the-proxy": _a_comparison,
    "engine-alone": _plans,
}
"""What a page's code has left."""


def test_there_are_pages_with_code() -> None:
    always = {"proxy-size", "write-a-scorer", "write-an-optimizer", "wont-trace", "index-algebra", "own-study"}
    assert always | READERS_OWN.keys() | AFTERWARDS.keys() <= {page.stem for page in WITH_CODE}


def test_the_tutorial_works_as_it_is_typed(tmp_path: Path) -> None:
    """From an empty folder: its files with their contents, its commands in their order, but for the installation."""
    file = r"```\{code-block\} python\n:caption: (?P<name>\S+)\n(?P<code>.*?)```"
    blocks = re.findall(file + r"|```sh\n(?P<shell>.*?)```", TUTORIAL, re.DOTALL)
    assert [name for name, _, _ in blocks if name] == ["mine.py", "search.py", "use.py"]
    here = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    printed = {}
    for name, code, shell in blocks:
        if name:
            (tmp_path / name).write_text(code.lstrip("\n"), encoding="utf-8")
        elif "pip install" not in shell:
            command = re.sub(r"\.venv/bin/(prunetune|python)", lambda found: COMMANDS[found[1]], shell)
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{shell}: {done.stderr}"
            printed[shell.strip()] = done.stdout
    cut = printed[".venv/bin/prunetune prune mine:Net --input 64,1,8,8"]
    assert re.search(r"^first\.0\.weight +256x1x3x3  -> +39x1x3x3$", cut, re.MULTILINE)
    assert "kept whole  10 channels: output: it is the model's output" in "".join(printed.values())
    assert "learning_rate" in printed[".venv/bin/python search.py"]
    assert (tmp_path / "runs" / "mine" / "report.html").stat().st_size > 10_000
    assert float(printed[".venv/bin/python use.py"]) > 0.5
    score = float(printed[".venv/bin/python search.py"].split()[-1])
    assert float(printed[".venv/bin/python use.py"]) == pytest.approx(score)
    shutil.rmtree(tmp_path / "runs")


def _slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {_slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_links_between_pages_lead_somewhere() -> None:
    """To files, and to headings in them."""
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", prose):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.relative_to(ROOT)} links to {target}"
            assert not anchor or anchor in _anchors(there), f"{page.relative_to(ROOT)} links to {target}#{anchor}"


API = "".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.md")))
MADE_BY_USERS = ("Categorical", "Comparison", "Float", "Int", "Ladder", "Pruning", "Rung", "Search", "SearchSpace")
CALLED = [name for name in prunetune.__all__ if name in MADE_BY_USERS or inspect.isfunction(getattr(prunetune, name))]


@pytest.mark.parametrize("name", prunetune.__all__)
def test_every_public_name_has_an_entry(name: str) -> None:
    assert re.search(rf"^\.\. auto(function|class):: prunetune\.{name}$", API, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in CALLED if name != "silent"])
def test_every_parameter_is_described(name: str) -> None:
    """By a line of its own under "Parameters" or "Attributes", alone or with others."""
    called = getattr(prunetune, name)
    section = re.search(
        r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\w+\n---|\Z)", inspect.getdoc(called) or "", re.S | re.M
    )
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^\w.*$", section[1] if section else "", re.MULTILINE))))
    assert set(inspect.signature(called).parameters) <= described
