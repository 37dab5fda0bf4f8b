"""Files of results, a line of JSON each; before those of every sitting a line that says where and with what."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

from torch import nn

from prunetune.record.provenance import machine, versions

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


def results(path: Path) -> list[Row]:
    """The results of all sittings."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if SITTING not in row]


@contextmanager
def sitting(path: Path | None, *distributions: str, **more: Any) -> Iterator[Callable[[Row], None]]:
    """What writes a result, at once; nothing without a path.

    Parameters
    ----------
    distributions
        Packages besides torch and Optuna whose versions are noted.
    more
        What else all results of this sitting have in common.
    """
    if path is None:
        yield lambda row: None
        return
    found = {**versions(), **{name: version(name) for name in distributions}}
    with path.open("a", encoding="utf-8") as file:

        def write(row: Row) -> None:
            print(json.dumps(row, separators=(",", ":")), file=file, flush=True)

        write({SITTING: {"machine": machine(nn.Linear(1, 1)), "versions": found, **more}})
        yield write
