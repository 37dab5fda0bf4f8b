"""Damaged run folders: the cases that were found, each named, and some dozens at random."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal._storage import JournalOperation

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


def lines(operation: JournalOperation, edit: Callable[[Any], None] | None, **of: Any) -> Callable[[Path], None]:
    """The lines of a run folder's journal that do this to trial 1 of the search, edited or left out."""

    def damage(folder: Path) -> None:
        read = [json.loads(text) for text in (folder / "study.log").read_text().splitlines()]
        studies = [line["study_name"] for line in read if line["op_code"] == JournalOperation.CREATE_STUDY]
        trials = [line["study_id"] for line in read if line["op_code"] == JournalOperation.CREATE_TRIAL]
        second = [number for number, study in enumerate(trials) if study == studies.index("search")][1]
        wanted = {"op_code": operation, "trial_id": second, **of}
        found = [line for line in read if wanted.items() <= line.items()]
        assert found
        for line in found:
            if edit is None:
                read.remove(line)
            else:
                edit(line)
        (folder / "study.log").write_text("".join(f"{json.dumps(line)}\n" for line in read))

    return damage


def middle(folder: Path) -> None:
    content = (folder / "study.log").read_bytes()
    third = len(content) // 3
    (folder / "study.log").write_bytes(content[:third] + b"\x99" * third + content[2 * third :])


def no_study(folder: Path) -> None:
    text = (folder / "study.log").read_text()
    assert text.count('"study_name":"search"') >= 1  # once for each start
    (folder / "study.log").write_text(text.replace('"study_name":"search"', '"study_name":"other"'))


def no_direction(folder: Path) -> None:
    text = (folder / "study.log").read_text()
    assert text.count('"directions":[2]') > 1
    (folder / "study.log").write_text(text.replace('"directions":[2]', '"directions":[1]'))


PARAM, STATE = JournalOperation.SET_TRIAL_PARAM, JournalOperation.SET_TRIAL_STATE_VALUES
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
    "bytes in study.log": (middle, r"cannot open the storage journal:.*: line \d+ of the journal is damaged"),
    "no lr": (lines(PARAM, None, param_name="lr"), "it has no lr"),
    "no name": (lines(PARAM, lambda line: line.update(param_name=None), param_name="lr"), "it has no lr"),
    "no study": (no_study, "has had 3 trials, but the study 'search' in its storage has none"),
    "no heads": (
        edited("result.json", lambda record: record["pruning"].pop("heads")),
        "pruning.heads = None",
    ),
    "no score": (lines(STATE, lambda line: line.update(values=None)), "trial 1 is not whole|is damaged"),
    "no direction": (no_direction, "its direction is not maximize"),
    "a state": (lines(STATE, lambda line: line.update(state=99)), "line .* of the journal is damaged"),
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
