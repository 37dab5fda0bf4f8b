"""Texts in files: which part they are, what their labels are, and what is said of files of another form."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from prunetune.cli.listing import rows as listed
from prunetune.data import JOBS, texts
from prunetune.data._texts import load_labelled, load_plain
from prunetune.errors import InputError
from tiny_texts import rows, write_csv, write_jsonl


def test_every_kind_of_text_has_a_job_and_a_summary() -> None:
    assert list(texts) == list(JOBS) == [row.name for row in listed("texts")]
    assert all(row.description for row in listed("texts"))


@pytest.mark.parametrize(("write", "suffix"), [(write_csv, ".csv"), (write_jsonl, ".jsonl")])
def test_what_is_missing_is_a_tenth_of_the_training_texts(write: Any, suffix: str, tmp_path: Path) -> None:
    parts, classes = load_labelled(write(tmp_path / f"any{suffix}", 60), 0)
    assert classes == ("neg", "pos")
    assert [len(part.texts) for part in (parts.train, parts.val, parts.test)] == [48, 6, 6]
    assert parts.val.labels.bincount().tolist() == [3, 3]
    labels = {row["text"]: row["label"] for row in rows(60)}
    for part in vars(parts).values():
        assert [classes[label] for label in part.labels] == [labels[text] for text in part.texts]
    again = load_labelled(tmp_path / f"any{suffix}", 0)[0]
    assert again.val.texts == parts.val.texts


def test_a_folder_has_a_file_a_part(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 60)
    write_jsonl(tmp_path / "validation.jsonl", 12)
    parts, _ = load_labelled(tmp_path, 0)
    assert [len(part.texts) for part in (parts.train, parts.val, parts.test)] == [54, 12, 6]
    assert parts.val.texts == [row["text"] for row in rows(12)]


def test_a_text_may_have_quotes_and_lines(tmp_path: Path) -> None:
    odd = 'a "b",\nc\u2028d'
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("label", "text"), *[(n % 2, odd) for n in range(20)]])
    parts, classes = load_labelled(tmp_path, 0)
    assert set(parts.train.texts) == {odd}
    assert classes == ("0", "1")


def test_plain_text_is_cut_at_its_end(tmp_path: Path) -> None:
    """Train, then validation, then test, as the text goes on."""
    (tmp_path / "book.txt").write_text("".join(str(n) for n in range(10)))
    parts, classes = load_plain(tmp_path / "book.txt", 0)
    assert (parts.train, parts.val, parts.test, classes) == ("01234567", "8", "9", ())
    (tmp_path / "train.txt").write_text("abc")
    (tmp_path / "val.txt").write_text("d")
    (tmp_path / "test.txt").write_text("e")
    assert load_plain(tmp_path, 0)[0].train == "abc"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "must have a file train with one of the endings .csv, .jsonl"),
        ({"train.csv": "text,sort\na,b\n"}, "line 2 of .*train.csv' has no text and label"),
        ({"train.jsonl": '{"text": "a", "label": "b"}\n\nnonsense\n'}, "line 3 of .*train.jsonl' has no text and"),
        ({"train.csv": "text,label\n"}, "train.csv' has no rows"),
        ({"train.csv": "text,label\na,b\nc,b\n"}, "need two labels at least; all have 'b'"),
        ({"train.csv": "text,label\na,b\nc,d\n"}, "2 texts in .* are too few to take a tenth for val and test"),
        ({"train.csv": "text,label\na,b\nc,d\n", "val.csv": "text,label\na,x\n"}, "label 'x' in .* of no text for tr"),
        ({"train.csv": b"text,label\n\xff,b\n"}, "train.csv' cannot be read as UTF-8 text"),
    ],
)
def test_files_of_another_form(files: dict[str, str | bytes], sentence: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=sentence):
        load_labelled(tmp_path, 0)


def test_no_such_file_and_another_ending(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        load_plain(tmp_path / "nowhere", 0)
    (tmp_path / "a.md").write_text("a")
    with pytest.raises(InputError, match=r"it must end in \.txt, or be a folder"):
        load_plain(tmp_path / "a.md", 0)
