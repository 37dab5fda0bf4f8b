"""The paper's tables and figures again, our numbers beside the paper's.

See benchmarks/README.md. What has been run is kept in a folder, and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
import torch

from benchmarks.engine.report import table
from benchmarks.paper.report import EVIDENCE, TABLES, Table
from benchmarks.paper.runs import PRESETS, Bench
from prunetune.errors import PrunetuneError
from prunetune.record.provenance import machine, versions
from prunetune.zoo import models

MOST_LINES: Final = 24
"""Of a curve on the terminal; all of it is in the JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not there yet of what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("what", nargs="+", choices=TABLES, metavar="WHAT", help=", ".join(TABLES))
    parser.add_argument("--scale", choices=PRESETS, default="cpu", help="smoke, cpu, full (the paper's own, on a GPU)")
    parser.add_argument("--folder", type=Path, help="where runs are kept; runs/paper-SCALE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(options.threads)
    try:
        bench = Bench(PRESETS[options.scale], options.folder or Path("runs") / f"paper-{options.scale}", options.device)
        found = {}
        for name in options.what:
            found[name] = TABLES[name](bench)
            print(report(name, found[name], bench, markdown=options.markdown), flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps(result(found, bench, options), indent=1) + "\n")
    except PrunetuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def result(found: Mapping[str, Table], bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    net = models["resnet8"](10, 3).to(bench.device)  # to ask where it is
    return {
        "benchmark": "paper",
        "settings": {"scale": options.scale, "device": options.device, **bench.preset.record()},
        "paper": {"file": EVIDENCE.name, "missing": "null where the text that we have does not give it"},
        "seeds": list(range(bench.preset.seeds)),
        "machine": {**machine(net), "threads": options.threads, "load": os.getloadavg()[0]},
        "versions": versions(),
        "results": {name: {"rows": each.rows, "notes": list(each.notes)} for name, each in found.items()},
    }


def report(name: str, found: Table, bench: Bench, *, markdown: bool) -> str:
    """One table, what stands for what, and what is to be said of it."""
    rows = found.rows
    if len(rows) > MOST_LINES and "epoch" in found.columns:
        rows = [rows[round(i * (len(rows) - 1) / (MOST_LINES - 1))] for i in range(MOST_LINES)]
    body = [[_cell(row[key]) for key in found.columns] for row in rows]
    lines = [f"{'## ' if markdown else ''}{name}", "", table(list(found.columns.values()), body, markdown=markdown), ""]
    return "\n".join([*lines, *(f"{note[0].upper()}{note[1:]}." for note in (*found.notes, *stand_ins(bench))), ""])


def _cell(value: object) -> object:
    """Small numbers, such as learning rates, with three digits that say something."""
    return f"{value:.3g}" if isinstance(value, float) and 0 < abs(value) < 0.01 else value


def stand_ins(bench: Bench) -> list[str]:
    """Which networks and datasets are not the paper's."""
    full, here = PRESETS["full"], bench.preset
    pairs = [f"{theirs}: {ours}" for theirs, ours in here.networks.items() if full.networks[theirs] != ours]
    pairs += [f"{theirs}: {ours[0]}" for theirs, ours in here.datasets.items() if full.datasets[theirs][0] != ours[0]]
    return [f"In the place of the paper's: {', '.join(pairs)}"] if pairs else []


if __name__ == "__main__":
    sys.exit(main())
