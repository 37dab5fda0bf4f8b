"""Texts in files, by what is in them: rows of text and label (CSV or JSON lines), or plain text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import torch

from prunetune.data._images import split_stratified
from prunetune.data.imagefolder import PARTS, SHARE
from prunetune.errors import InputError

T = TypeVar("T")
Rows: TypeAlias = list[tuple[str, str]]
"""Texts and their labels, as they are written."""
COLUMNS: Final = ("text", "label")


@dataclass(frozen=True)
class TextParts(Generic[T]):
    """What is trained on, what chooses, and what says how good the chosen is."""

    train: T
    val: T
    test: T


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, and for each the number of its class, int64 (N,)."""

    texts: list[str]
    labels: torch.Tensor


@dataclass(frozen=True)
class TextDataset:
    """How texts are read from ``root``, a file or a folder; ``load(root, seed)`` splits with ``seed``.

    Returns the parts and the names of the classes, of which plain text has none.
    """

    load: Callable[[Path, int], tuple[TextParts[Any], tuple[str, ...]]]
    summary: str


def load_labelled(root: Path, seed: int) -> tuple[TextParts[LabelledTexts], tuple[str, ...]]:
    """``train``, ``val`` and ``test`` in a folder, each ``.csv`` or ``.jsonl``; or one such file.

    Rows have ``text`` and ``label``, a column each.
    A part that is missing gets a tenth of the training texts, drawn with ``seed``, every class in its proportion.

    Raises InputError for files of another form, and for labels that no training text has.
    """
    rows = {part: _rows(path) for part, path in _files(root, READERS).items()}
    classes = tuple(sorted({label for _, label in rows["train"]}))
    if len(classes) < 2:
        raise InputError(f"the texts for training in {str(root)!r} need two labels at least; all have {classes[0]!r}")
    numbers = {label: number for number, label in enumerate(classes)}
    parts = {part: _numbered(each, numbers, root) for part, each in rows.items()}
    return _completed(parts, seed, root), classes


def load_plain(root: Path, seed: int) -> tuple[TextParts[str], tuple[str, ...]]:
    """``train.txt``, ``val.txt`` and ``test.txt`` in a folder; or one file.

    A part that is missing is the last tenth of the training text: pieces from its middle would be known by what
    is around them. ``seed`` has no part in it.
    """
    parts = {part: _text(path) for part, path in _files(root, (".txt",)).items()}
    train = parts.pop("train")
    tenth = len(train) // SHARE
    for part in ("test", "val"):
        if part not in parts:
            parts[part], train = train[len(train) - tenth :], train[: len(train) - tenth]
    return TextParts(train, parts["val"], parts["test"]), ()


def _files(root: Path, suffixes: Mapping[str, object] | tuple[str, ...]) -> dict[str, Path]:
    """The file of every part that has one; of a ``root`` that is a file, the training's."""
    kinds = ", ".join(suffixes)
    if root.is_file():
        if root.suffix not in suffixes:
            raise InputError(f"data.root is {str(root)!r}, but it must end in {kinds}, or be a folder with such files")
        return {"train": root}
    if not root.is_dir():
        raise InputError(f"data.root is {str(root)!r}, but there is no such file or folder")
    found = {}
    for part, names in PARTS.items():
        there = [root / f"{name}{suffix}" for name in names for suffix in suffixes]
        if path := next((each for each in there if each.is_file()), None):
            found[part] = path
    if "train" not in found:
        raise InputError(f"{str(root)!r} must have a file train with one of the endings {kinds}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read as UTF-8 text ({error})") from None


def _rows(path: Path) -> Rows:
    rows = []
    for line, row in READERS[path.suffix](_text(path)):
        text, label = (row.get(column) if isinstance(row, dict) else None for column in COLUMNS)
        if not isinstance(text, str) or not isinstance(label, str | int):
            raise InputError(f"line {line} of {str(path)!r} has no text and label; each row needs these two columns")
        rows.append((text, str(label)))
    if not rows:
        raise InputError(f"{str(path)!r} has no rows; it needs some with the columns text and label")
    return rows


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        yield reader.line_num, row


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError:
                yield number, None


READERS: Final[dict[str, Callable[[str], Iterator[tuple[int, Any]]]]] = {".csv": _csv, ".jsonl": _json_lines}
"""By a file's ending, its rows with their lines."""


def _numbered(rows: Rows, numbers: Mapping[str, int], root: Path) -> LabelledTexts:
    for _, label in rows:
        if label not in numbers:
            raise InputError(f"the label {label!r} in {str(root)!r} is of no text for training")
    return LabelledTexts([text for text, _ in rows], torch.tensor([numbers[label] for _, label in rows]))


def _completed(parts: dict[str, LabelledTexts], seed: int, root: Path) -> TextParts[LabelledTexts]:
    """All three; what is missing is taken from the training texts."""
    whole = parts["train"]
    missing = [part for part in ("val", "test") if part not in parts]
    size = len(whole.texts) // SHARE
    if missing and size == 0:
        raise InputError(
            f"{len(whole.texts)} texts in {str(root)!r} are too few to take a tenth for {' and '.join(missing)}"
        )
    sizes = (len(whole.texts) - size * len(missing), *[size] * len(missing))
    drawn = split_stratified(whole.labels, sizes, seed)
    taken = {
        part: LabelledTexts([whole.texts[place] for place in indices.tolist()], whole.labels[indices])
        for part, indices in zip(("train", *missing), drawn, strict=True)
    }
    return TextParts(**{**parts, **taken})


LABELLED: Final = TextDataset(
    load_labelled, "your own texts with labels: data.root/train.csv or .jsonl, or one such file"
)
PLAIN: Final = TextDataset(load_plain, "your own plain text: data.root/train.txt, or one such file")
