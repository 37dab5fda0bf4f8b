"""The English of docs, messages and docstrings, as far as a machine can judge it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
CODE = [path for folder in ("src", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
TEXTS = [*PAGES, *CODE, *sorted((ROOT / "src").rglob("*.toml")), *sorted((ROOT / "src").rglob("*.j2"))]
LONGEST = 150
FILLERS = re.compile(r"\b(simply|obviously|of course|just (?!now\b|below\b|been\b|returned\b|made\b))", re.IGNORECASE)
"""Words that tell a reader who is stuck that he should not be; "just" of time and place is none of them."""
RIDDLES = (
    "every trial starts from fresh weights",
    "adam and its like",
    "is a proxy better than fewer epochs",
    "without a rule touches is left whole",
    "of use without the search",
    "beside whom",
    "cheap in more than",
    "what is confirmed races",
    "where much hangs on",
    "no proxy can beat",
    "come out of the storage",
    "everything but the data comes out of the storage",
    "one trial in",
    "best was missed with",
    "beside others",
    "who does not ask gets nothing",
)
"""Sentences that first-time readers did not understand; what was said instead is in the history of this list."""


def lines_of_prose(page: Path) -> list[tuple[int, str]]:
    """The numbered lines of a page without its code and tables."""
    found, in_code = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code and not line.lstrip().startswith(("|", "```")):
            found.append((number, line))
    return found


def test_nothing_is_misspelt() -> None:
    """Words that are none, and look like mistakes, are in ``tool.codespell`` of pyproject.toml."""
    asked = ["src", "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "examples"]
    command = [sys.executable, "-m", "codespell_lib", *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("Hyperparameters of teh network.\n")
    command = [sys.executable, "-m", "codespell_lib", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "teh ==> the" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short(page: Path) -> None:
    long = [f"{page.name}:{number} has {len(line)}" for number, line in lines_of_prose(page) if len(line) > LONGEST]
    assert not long, long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_word_belittles_a_difficulty(page: Path) -> None:
    found = [f"{page.name}:{number}: {line}" for number, line in lines_of_prose(page) if FILLERS.search(line)]
    assert not found, found


def test_no_riddle_has_come_back() -> None:
    found = []
    for path in TEXTS:
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8")).casefold()
        found += [f"{path.relative_to(ROOT)}: {riddle}" for riddle in RIDDLES if riddle in text]
    assert not found, found
