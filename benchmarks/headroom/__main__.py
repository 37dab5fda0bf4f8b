"""How much of a trial's time a proxy saves: a training step, and a whole trial with its data and its evaluation.

For each network of the paper two proxies, beside the full network in one run: that of the paper's own rule (p = 85,
floor 0.15), and one of ours that is smaller. See benchmarks/README.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.common.command import command, write
from benchmarks.headroom.cases import NETWORKS, SCALES
from benchmarks.headroom.report import report
from benchmarks.headroom.runs import run
from prunetune import keep_freed_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line names; returns the exit status."""
    parser = command("headroom", __doc__)
    parser.add_argument(
        "--scale", choices=SCALES, default="cpu", help="smoke, cpu (15 minutes of a core), full (a GPU)"
    )
    names = [network.name for network in NETWORKS]
    parser.add_argument("--model", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in this process (1)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # trials are trained in this process, as `tune` trains them
    result: dict[str, Any] = {}
    for result in run(options):
        write(options.json, result)
    print(report(result, markdown=options.markdown))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
