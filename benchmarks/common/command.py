"""What the command lines of all experiments have in common, and the JSON that they write."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunetune.record.provenance import machine, versions


def command(
    name: str, about: str | None, *, file: str | None = "write the results to this file", markdown: bool = True
) -> argparse.ArgumentParser:
    """The parser of ``python -m benchmarks.NAME``, with ``--json FILE`` and ``--markdown``.

    Parameters
    ----------
    file
        What ``--json`` says of itself; None for an experiment that adds another ``--json``.
    markdown
        Whether there is a switch for tables in Markdown.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    if file is not None:
        parser.add_argument("--json", type=Path, metavar="FILE", help=file)
    if markdown:
        parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser


def provenance(device: str | torch.device = "cpu", *, load: bool = False, **more: Any) -> dict[str, Any]:
    """The machine and the versions of a result.

    Parameters
    ----------
    load
        Whether to say how busy the machine is, for results that are times.
    more
        What else to say of the machine.
    """
    busy = {"load": os.getloadavg()[0]} if load else {}
    return {"machine": {**machine(nn.Linear(1, 1).to(device)), **more, **busy}, "versions": versions()}


def write(path: Path | None, result: Any) -> None:
    """Write a result as JSON, if there is a file to write it to."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
