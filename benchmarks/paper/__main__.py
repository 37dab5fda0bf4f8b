"""The paper's tables and figures again, our numbers beside the paper's.

See benchmarks/README.md. What has been run is kept in a folder, and not run again.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch

from benchmarks.common.command import command, write
from benchmarks.paper.cases import PRESETS
from benchmarks.paper.report import TABLES, report, result
from benchmarks.paper.runs import Bench
from prunetune.errors import PrunetuneError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not there yet of what the command line names; returns the exit status."""
    parser = command("paper", __doc__)
    parser.add_argument("what", nargs="+", choices=TABLES, metavar="WHAT", help=", ".join(TABLES))
    parser.add_argument("--scale", choices=PRESETS, default="cpu", help="smoke, cpu, full (the paper's own, on a GPU)")
    parser.add_argument("--folder", type=Path, help="where runs are kept; runs/paper-SCALE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
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
            write(options.json, result(found, bench, options))
    except PrunetuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
