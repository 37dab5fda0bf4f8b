"""Configurations and plans, each changed at random: `python -m benchmarks.file_drill`.

Every command that reads a configuration must end in one sentence and status 2, or come to its training with exactly
what stands in the file. A plan must be refused in a sentence, or cut exactly what it says and nothing else. Nothing is
trained. Run folders are damaged by `benchmarks.damage_drill`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from benchmarks.common.command import command, provenance, write
from benchmarks.file_drill.runs import KINDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 1 if something is wrong."""
    parser = command("file_drill", __doc__, file="write what was found to this file", markdown=False)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), metavar="NAME", help=str([*KINDS]))
    parser.add_argument("--mutations", type=int, default=1000, help="of each kind (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; those after count up")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found, failed = {}, 0
    for kind in options.kind:
        failures, counts = KINDS[kind](range(options.seed, options.seed + options.mutations))
        for each in failures:
            print(f"{each.seed} {each.change} | {each.command}: {each.error}", flush=True)
        print(f"{kind}: {counts['accepted']} as they are written, {counts['refused']} refused, {len(failures)} failed")
        found[kind] = {"accepted": 0, "refused": 0, **counts, "failures": [asdict(each) for each in failures]}
        failed += len(failures)
    settings = {"mutations": options.mutations, "seed": options.seed}
    write(options.json, {"benchmark": "file_drill", **provenance(), "settings": settings, **found})
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
