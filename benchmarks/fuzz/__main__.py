"""Random networks out of all operations, cut at random, and the result held against an oracle.

The test suite does this with a few hundred networks (`tests/testing/test_fuzz.py`, where it is explained); here are as
many as you like, of new seeds. What fails is printed as a program that can be run again; the exit status is then 1.

With `--forwards N`, random forward functions instead (`prunetune.testing.fuzzer.forwards`): exact or frozen, and
nothing changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from benchmarks.common.command import command, provenance, write
from benchmarks.fuzz.report import lines_of, text
from benchmarks.fuzz.runs import forward_functions, networks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = command("fuzz", __doc__, file="write the findings to this file", markdown=False)
    parser.add_argument("--networks", type=int, default=5000, metavar="N")
    parser.add_argument("--forwards", type=int, metavar="N", help="so many forward functions instead of networks")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first network; the next has S + 1")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if options.forwards is None:
        record = networks(options.networks, options.seed)
        print(text(record))
    else:
        record = forward_functions(options.forwards, options.seed)
        print(lines_of(record))
    write(options.json, {**record, "first_seed": options.seed, **provenance()})
    return 1 if record["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
