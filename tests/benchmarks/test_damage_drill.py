"""Damaged run folders: the cases that were found, each named, and some dozens at random."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.damage_drill.cases import DEEP
from benchmarks.damage_drill.runs import COMMANDS, prepare, quick, run
from prunetune.errors import PrunetuneError


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A finished run and a stopped one."""
    with quick():
        yield {folder.name: folder for folder in prepare(tmp_path_factory.mktemp("runs"))}


def edited(name: str, edit: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        edit(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def without(key: str) -> Callable[[Path], None]:
    return edited("result.json", lambda record: record.pop(key))


def null(key: str) -> Callable[[Path], None]:
    return edited("result.json", lambda record: record.update({key: None}))


def binary(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(bytes(range(256)))

    return damage


def deep(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text('{"format": 1, "search": ' + "[" * DEEP + "]" * DEEP + "}")

    return damage


def executed(statement: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / "study.db")) as database, database:
            assert database.execute(statement).rowcount != 0  # -1 for what changes no rows, but tables

    return damage


def pages(folder: Path) -> None:
    content = bytearray((folder / "study.db").read_bytes())
    content[4096:] = b"\x99" * (len(content) - 4096)  # the first page says what the file is
    (folder / "study.db").write_bytes(content)


SEARCH = "(SELECT trial_id FROM trials JOIN studies USING (study_id) WHERE study_name = 'search' AND number = 1)"
FOUND: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"no {key}": (without(key), "result.json is damaged") for key in ("time", "search", "cost", "winner", "status")},
    **{f"{key} null": (null(key), "result.json is damaged") for key in ("time", "cost", "confirmation", "pruning")},
    "half a cost": (edited("result.json", lambda record: record["cost"]["base"].pop("flops")), "cost.base.flops"),
    "binary plan.json": (binary("plan.json"), "plan.json is damaged"),
    "binary result.json": (binary("result.json"), "result.json is damaged"),
    "binary config.json": (binary("config.json"), "config.json is damaged"),
    "deep result.json": (deep("result.json"), "result.json is damaged"),
    "NaN": (edited("result.json", lambda record: record["versions"].update(prunetune=float("nan"))), "NaN is no JSON"),
    "deep config.json": (deep("config.json"), "config.json is damaged"),
    "bytes in study.db": (pages, "the storage .* (is damaged|cannot be)|cannot open the storage"),
    "no lr": (executed(f"DELETE FROM trial_params WHERE param_name = 'lr' AND trial_id = {SEARCH}"), "it has no lr"),
    "no name": (executed(f"UPDATE trial_params SET param_name = NULL WHERE trial_id = {SEARCH}"), "it has no lr"),
    "no table": (executed("DROP TABLE studies"), "the study 'search' is damaged"),
    "no heads": (
        edited("result.json", lambda record: record["pruning"].pop("heads")),
        "pruning.heads = None",
    ),
    "no score": (executed(f"DELETE FROM trial_values WHERE trial_id = {SEARCH}"), "trial 1 is not whole|is damaged"),
    "no direction": (executed("DELETE FROM study_directions"), "its direction is not maximize"),
    "a state": (executed(f"UPDATE trials SET state = 'ODD' WHERE trial_id = {SEARCH}"), "the storage .* is damaged"),
}


@pytest.mark.parametrize("case", FOUND)
def test_a_run_that_goes_on_says_what_is_damaged(case: str, originals: dict[str, Path], tmp_path: Path) -> None:
    damage, complaint = FOUND[case]
    folder = tmp_path / "stopped"
    shutil.copytree(originals["stopped"], folder)
    damage(folder)
    with pytest.raises(PrunetuneError, match=complaint) as refused:
        COMMANDS["longer"](folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", FOUND)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works_or_says_why_not(
    command: str, case: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "finished"
    shutil.copytree(originals["finished"], folder)
    FOUND[case][0](folder)
    with contextlib.suppress(PrunetuneError):
        COMMANDS[command](folder)


def test_at_random() -> None:
    failures, counts = run(20, seed=20)
    assert failures == []
    assert counts["refused"] > 20  # else nothing was damaged
    assert counts["done"] > 20
