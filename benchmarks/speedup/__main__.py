"""Does `prune(speedup=5)` give a network that is five times faster? Timed by code that is not the engine's.

For each network a child process prunes and saves the proxy's plan, and another, which has not seen the pruning, times
training steps (forward, loss, backward, no optimizer) of the full network and of the proxy in turns. It keeps the
memory that it frees, as `tune` does; a third does not ("allocator alone": what a script sees that does not call
`prunetune.keep_freed_memory`).
"""

from __future__ import annotations

import fnmatch
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common.command import command, provenance, write
from benchmarks.common.tables import table
from benchmarks.speedup.runs import HEADER, MOST_OFF, NETWORKS, SEED, judge


def main(arguments: Sequence[str] | None = None) -> int:
    """Prune and time what the command line names; returns 1 if a proxy is over a tenth off."""
    parser = command("speedup", __doc__, file="write the rows to this file")
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the networks whose names match")
    parser.add_argument("--speedup", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=128, help="images of 32x32 in a step (128)")
    parser.add_argument("--seconds", type=float, default=40.0, help="for which steps are timed (40)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="of another version, which is run, too")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    rows = []
    for name in fnmatch.filter(NETWORKS, options.model):
        for version in ("before", "now") if options.before else ("now",):
            rows.append(judge(name, version, options))
            row = rows[-1]
            said = f"{row['measured here'] or row['failure']}, {row['processor s'] or 0:.1f} s"
            print(f"{name:<24} {version:<6} {said}", file=sys.stderr, flush=True)
    where = provenance(threads=options.threads)
    write(options.json, {**where, "seeds": [SEED], "batch": options.batch, "rows": rows})
    print(table(HEADER, [[row[column] for column in HEADER] for row in rows], markdown=options.markdown))
    return int(any(abs(row["off by, %"] or 0.0) > MOST_OFF for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
