"""How many parameters are left at `ratio=0.5`, beside how many the same network has at half of its widths.

`python -m benchmarks.shares` prunes every network of `cases.py` by magnitude, and has the cut judged: by the
original with zeros, or by tensors that know what is gone (`oracle` and `presence` of `prunetune.testing`). What
is frozen is printed with its reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from benchmarks.common.command import command, provenance, write
from benchmarks.common.tables import table
from benchmarks.shares.cases import KINDS
from benchmarks.shares.runs import measured, percent


def main(arguments: Sequence[str] | None = None) -> int:
    """Prune and judge the networks that the command line names; returns 1 if one was cut wrongly."""
    parser = command("shares", __doc__, file="write the shares to this file", markdown=False)
    parser.add_argument("--network", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="NAME")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = [measured(name, KINDS[name]) for name in options.network]
    cells = [[r["network"], percent(r["left"]), percent(r["possible"]), r["judged"]] for r in rows]
    print(f"\n{table(['network', 'left, %', 'possible, %', 'judged'], cells, markdown=True)}")
    write(options.json, {"benchmark": "shares", **provenance(), "networks": rows})
    return int(any(row["judged"].startswith("WRONG") for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
