"""`python -m benchmarks.fuzz`: what it prints and writes, and that the page says what its last runs found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.fuzz import runs as fuzz
from benchmarks.fuzz.__main__ import main
from prunetune.testing.hazards import NETWORKS, REFUSED

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The benchmark takes one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_networks_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert main(["--networks", "3", "--seed", "7", "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    assert (record["networks"] + record["discarded"], record["mismatches"], record["first_seed"]) == (3, 0, 7)
    assert "mismatches  0" in capsys.readouterr().out


def test_forward_functions_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert main(["--forwards", "3", "--seed", "7", "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    assert (record["forward_functions"], record["mismatches"], record["first_seed"]) == (3, 0, 7)


@pytest.mark.parametrize("what", ["--networks", "--forwards"])
def test_whatever_fails_is_printed_as_a_program(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(program: Any, seed: int) -> Any:
        raise ValueError(f"not {seed}")

    monkeypatch.setattr(fuzz, "check", wrong)
    monkeypatch.setattr(fuzz.forwards, "check", wrong)
    assert main([what, "2", "--seed", "7"]) == 1
    out = capsys.readouterr().out
    assert "seed 7: ValueError: not 7\n" in out
    assert "seed 8: ValueError: not 8\n" in out
    assert "return x" in out if what == "--networks" else "def forward" in out


def test_the_page_says_what_was_found() -> None:
    page = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    random, functions = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text()) for name in ("fuzz", "forwards")
    )
    rows = [
        ("one structural hazard each", f"{len(NETWORKS) - len(REFUSED)}", "0"),
        ("random networks", f"{random['networks']:,}, of which {random['cut']:,} lost", f"{random['mismatches']}"),
        (
            "random forward functions",
            f"{functions['forward_functions']:,}: {functions['exact']:,} exact, {functions['frozen']:,} frozen",
            f"{functions['mismatches']}",
        ),
    ]
    for what, networks, wrong in rows:
        _, _, says, of_these, _ = next(line for line in page.splitlines() if line.startswith(f"| {what}")).split("|")
        assert says.strip().startswith(networks)
        assert of_these.strip() == wrong
    assert f"{len(REFUSED)} hazards are refused" in page
