"""Damage run folders in every way, and see what each command makes of it: `python -m benchmarks.damage_drill`.

Three runs of a tiny network, one finished, one stopped in its search and one on the last rung of its ladder, are
copied, and in each copy one file is damaged at random: bytes, length, a field of its JSON, a row or a value of its
database. Then it is continued, made longer, checked, joined by a worker and reported. Every command must either end in
an error on purpose, which is a sentence, or do what it should: the winner's score must be the one that its
hyperparameters have, which is known without training, or what the damaged file says of a run that is finished.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict

import torch

from benchmarks.common.command import command, provenance, write
from benchmarks.damage_drill.runs import COMMANDS, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 1 if something is wrong."""
    parser = command("damage_drill", __doc__, file="write what was found to this file", markdown=False)
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the first; those after count up")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    failures, counts = run(options.mutations, seed=options.seed, say=functools.partial(print, flush=True))
    print(
        f"{options.mutations} damaged folders, {len(COMMANDS)} commands each: {counts['done']} did their work,", end=" "
    )
    print(f"{counts['refused']} said why not, {len(failures)} failed")
    done = {"mutations": options.mutations, "seed": options.seed, **counts}
    write(options.json, {**done, "failures": [asdict(each) for each in failures], **provenance()})
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
