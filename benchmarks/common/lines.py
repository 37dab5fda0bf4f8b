"""Files of results, a line of JSON each; before those of every sitting a line that says where and with what."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.common.command import provenance

Row: TypeAlias = dict[str, Any]

SITTING: Final = "sitting"
"""The only key of a line that is not a result."""


def add_arguments(parser: argparse.ArgumentParser, *, resume: bool) -> None:
    """`--json`, and `--resume` for a benchmark that can go on with a file."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result to this file, a line each")
    if resume:
        parser.add_argument("--resume", action="store_true", help="keep the results that FILE has, and add the others")


def earlier(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Row]:
    """The results of a file that is gone on with. No file is overwritten or added to unless that was asked for."""
    if options.json is None or not options.json.exists():
        return []
    if "resume" not in options:
        parser.error(f"{options.json} exists; name another file")
    if not options.resume:
        parser.error(f"{options.json} exists; add --resume to go on with it, or name another file")
    return results(options.json)


def results(path: Path | None) -> list[Row]:
    """The results of all sittings in a file; none where there is no file.

    A line that a killed run has left unfinished is no result.
    """
    if path is None or not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if SITTING not in row:
            rows.append(row)
    return rows


@contextmanager
def appended(path: Path | None) -> Iterator[Callable[[Row], None]]:
    """A function that adds a line to a file, at once; it does nothing without a path.

    After a line that a killed run has left unfinished, the next one begins on a line of its own.
    """
    if path is None:
        yield lambda row: None
        return
    unfinished = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        if unfinished:
            print(file=file)

        def add(row: Row) -> None:
            print(json.dumps(row, separators=(",", ":")), file=file, flush=True)

        yield add


@contextmanager
def sitting(path: Path | None, *distributions: str, **more: Any) -> Iterator[Callable[[Row], None]]:
    """`appended`, after a line that says where and with what.

    Parameters
    ----------
    distributions
        Packages besides torch and Optuna whose versions are noted.
    more
        What else all results of this sitting have in common.
    """
    with appended(path) as add:
        where = provenance()
        where["versions"] |= {name: version(name) for name in distributions} if path is not None else {}
        add({SITTING: {**where, **more}})
        yield add
