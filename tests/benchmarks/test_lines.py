"""Files of results that carry where and with what they were made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks.common import lines


def parsed(*arguments: str, resume: bool = True) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser()
    lines.add_arguments(parser, resume=resume)
    return parser.parse_args(arguments), parser


def test_every_sitting_says_where_and_with_what(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for seed in (0, 1):
        with lines.sitting(file, "numpy", threads=1) as write:
            write({"seed": seed})
            assert lines.results(file)[-1] == {"seed": seed}, "what is written is there at once"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [list(row) for row in found] == [["sitting"], ["seed"], ["sitting"], ["seed"]]
    where = found[0]["sitting"]
    assert where["versions"]["torch"] == torch.__version__ and where["versions"]["numpy"]
    assert where["machine"]["cores"] >= 1 and where["threads"] == 1
    assert lines.earlier(*parsed("--json", str(file), "--resume")) == [{"seed": 0}, {"seed": 1}]


@pytest.mark.parametrize("resume", [True, False])
def test_a_file_that_is_there_is_not_overwritten(
    tmp_path: Path, resume: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"seed": 0}\n')
    with pytest.raises(SystemExit):
        lines.earlier(*parsed("--json", str(file), resume=resume))
    assert ("add --resume" in capsys.readouterr().err) == resume
    assert file.read_text() == '{"seed": 0}\n'


def test_nothing_is_written_without_a_file() -> None:
    assert lines.earlier(*parsed()) == []
    with lines.sitting(None) as write:
        write({"seed": 0})


def test_after_an_unfinished_line_the_next_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"seed": 0}\n{"seed": 1, "sc')  # as a killed run leaves it
    with lines.appended(file) as add:
        add({"seed": 2})
    assert lines.results(file) == [{"seed": 0}, {"seed": 2}]
