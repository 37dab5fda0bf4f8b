"""Changed configurations and plans: the cases that were found, and some dozens at random."""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path

import pytest

from benchmarks.file_drill.__main__ import main
from benchmarks.file_drill.cases import as_toml, changed, configurations, plans
from benchmarks.file_drill.runs import drill_configurations, drill_plans
from prunetune.cli.config import read_config
from prunetune.engine import PruningPlan
from prunetune.errors import InputError, PlanError
from prunetune.record.folder import whole_path


def test_at_random() -> None:
    for drill in (drill_configurations, drill_plans):
        failures, counts = drill(range(5000, 5040))
        assert failures == []
        assert counts["refused"] > 10  # else nothing was changed


def test_what_is_not_changed_is_accepted(tmp_path: Path) -> None:
    for content in configurations().values():
        (tmp_path / "run.toml").write_text(as_toml(content), encoding="utf-8")
        assert tomllib.loads((tmp_path / "run.toml").read_text(encoding="utf-8")) == content
        read_config(tmp_path / "run.toml")
    for plan in plans().values():
        assert json.loads(PruningPlan.from_json(json.dumps(plan)).to_json()) == plan


def test_something_is_changed() -> None:
    content = configurations()["run.toml"]
    assert all(changed(content, random.Random(seed))[0] != content for seed in range(20))


def test_a_configuration_that_is_nested_deeply_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"[model]\nname = {'[' * 9999}{']' * 9999}\n", encoding="utf-8")
    with pytest.raises(InputError, match="nested more deeply than any key allows"):
        read_config(path)


@pytest.mark.parametrize("size", ["Infinity", "1e999", "NaN", "8.5", "1e30", "true", "99999999999999999999"])
def test_a_plan_of_endless_size_is_one_sentence(size: str) -> None:
    text = json.dumps(plans()["cut"])
    first = text.index('"shape": [') + len('"shape": [')
    with pytest.raises(PlanError, match="this is not a pruning plan"):
        PruningPlan.from_json(f"{text[:first]}{size}, {text[first:]}")


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert main(["--mutations", "3", "--json", str(file)]) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    assert {found["plans"]["accepted"] + found["plans"]["refused"], found["settings"]["mutations"]} == {3}


def test_a_folder_with_a_null_character_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"the run folder is 'a\\x00b', but it must be a path"):
        whole_path("the run folder", "a\0b")
