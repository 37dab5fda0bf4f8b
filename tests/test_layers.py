"""The table of rooms in ARCHITECTURE.md, held against the imports of every module, also those inside functions."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunetune

ROOT = Path(prunetune.__file__).parent
PAGE = ROOT.parents[1] / "ARCHITECTURE.md"
EVERYTHING = "__init__"  # the names of the package itself are loaded on use


def rooms(page: str) -> dict[str, tuple[set[str], set[str]]]:
    """The rows of the table: what a room may import of ours, and of others. "all but" is of the rooms above."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for row in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .* \|$", page, re.MULTILINE):
        name, ours, others = row
        named = set(re.findall(r"`(\w+)`", ours))
        found[name] = (
            set(found) - named if ours.startswith("all but") else named,
            set(re.findall(r"\w+", others)) - {"–"},
        )
    return found


ROOMS = rooms(PAGE.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    """The room that a module is in; ``__main__`` is the command's."""
    parts = path.relative_to(ROOT).parts
    return "cli" if parts == ("__main__.py",) else parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, "relative"
            yield from [f"prunetune.{a.name}" for a in node.names] if node.module == "prunetune" else [node.module]


def wrong(room: str, source: str) -> list[str]:
    """The imports in ``source``, a module of ``room``, for which there is no place in the room's row."""
    ours, others = ROOMS[room]
    found = []
    for name in imports(source):
        top, _, rest = name.partition(".")
        part = rest.partition(".")[0].replace("__main__", "cli")
        fine = part in {*ours, room} if top == "prunetune" else top in others or top in sys.stdlib_module_names
        found += [] if fine else [name]
    return found


MODULES = [path for path in sorted(ROOT.rglob("*.py")) if room_of(path) != EVERYTHING]


def test_the_table_has_every_room_and_no_other() -> None:
    assert {room_of(path) for path in MODULES} == set(ROOMS)


def test_the_root_of_the_package_has_few_modules() -> None:
    there = {path.name for path in ROOT.glob("*.py")}
    assert there == {"__init__.py", "__main__.py", "_version.py", "errors.py", "events.py", "registry.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    assert not wrong(room_of(path), path.read_text(encoding="utf-8"))


def test_no_room_imports_one_below_it() -> None:
    """So there is no circle."""
    above: set[str] = set()
    for room, (ours, _) in ROOMS.items():
        assert ours <= above, (room, ours - above)
        above.add(room)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("report", "from prunetune.tuning.run import Run"),
        ("transfer", "def f():\n    from prunetune.backends.study.trial import Report"),
        ("data", "from prunetune.tuning.fidelity import Fidelity"),
        ("engine", "import optuna"),
        ("tuning", "from prunetune import cli"),
    ],
)
def test_a_wall_that_is_broken_is_seen(room: str, source: str) -> None:
    assert wrong(room, source)
