"""The table of layers in ARCHITECTURE.md, held against the imports in the code."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunetune

ROOT = Path(prunetune.__file__).parent

# What a layer may import besides the standard library: outside packages, and parts of prunetune.
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "engine": ({"torch", "numpy", "scipy", "networkx"}, {"engine", "errors"}),
    "plugins": ({"torch", "numpy"}, {"engine", "plugins", "errors", "registry"}),
    "interop": (
        {"torch", "numpy", "torch_pruning", "nevergrad", "skopt", "lightning", "transformers"},
        {"engine", "plugins", "backends", "errors"},
    ),
    "testing": (
        {"pytest", "torch", "numpy", "optuna"},
        {"testing", "pruning", "engine", "plugins", "backends", "errors", "registry"},
    ),
    "backends": (
        {"optuna", "sqlalchemy", "numpy", "scipy", "nevergrad", "skopt"},
        {"backends", "errors", "registry", "events", "interrupts"},
    ),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_is_under_it(layer: str) -> None:
    outside, inside = LAYERS[layer]
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            top, _, rest = name.partition(".")
            if top == "prunetune":
                part = rest.partition(".")[0]
                assert part in inside, f"{file.relative_to(ROOT)} imports {name}"
            else:
                assert top in outside or top in sys.stdlib_module_names, f"{file.relative_to(ROOT)} imports {name}"
