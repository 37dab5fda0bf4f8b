"""``import prunetune`` is cheap: what is heavy is imported when it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter has loaded after ``statement``."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_itself_imports_next_to_nothing() -> None:
    """So it is no slower than ``import torch``: it does not even import that."""
    third_party = modules_after("import prunetune") - modules_after("pass") - set(sys.stdlib_module_names)
    assert third_party == {"prunetune"}


@pytest.mark.parametrize("name", ["prune", "tune", "SearchSpace", "PruningPlan"])
def test_what_it_offers_comes_without_what_it_does_not_need(name: str) -> None:
    loaded = modules_after(f"import prunetune; prunetune.{name}")
    assert not loaded & {"torchvision", "nevergrad", "skopt", "sklearn", "plotly", "typer", "torch_pruning"}


def test_the_engine_stands_alone() -> None:
    """torch, numpy, scipy, networkx and what those load; nothing of a search, an image or a page."""
    loaded = modules_after("import prunetune.engine")
    assert not loaded & {
        "optuna",
        "pydantic",
        "typer",
        "rich",
        "jinja2",
        "plotly",
        "torchvision",
        "sklearn",
        "safetensors",
    }


def test_every_offered_name_is_there() -> None:
    import prunetune

    for name in prunetune.__all__:
        assert getattr(prunetune, name) is not None
