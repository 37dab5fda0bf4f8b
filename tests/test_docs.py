"""The docs: the site builds without a warning, its Python runs, and the tutorial works as it is typed."""

from __future__ import annotations

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
def test_the_python_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block; ``py`` is what needs something of the reader's own."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "a_page"}
    if page.stem in READERS_OWN:
        names |= READERS_OWN[page.stem](tmp_path, monkeypatch)
    for block in re.findall(r"```py(?:thon)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, page.name, "exec"), names)


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
    "cost": _a_ladder,
    "go-on": _a_run_that_goes_on,
    "read-the-report": _a_run,
    "several-machines": _a_search,
}


def test_there_are_pages_with_code() -> None:
    assert {"proxy-size", "write-a-scorer", "write-an-optimizer", "wont-trace", "index-algebra", *READERS_OWN} <= {
        page.stem for page in WITH_CODE
    }


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


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((DOCS / "decisions").glob("*.md"))]:
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", prose):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
