"""Whole architectures in float64, cut to half width at random, against an oracle.

The oracle is the original, run on tensors that know what is gone (`prunetune.testing.presence`). Where a model has an
operation that this gives no meaning, what is removed is set to zero in the original, and normalisations across channels
see only what stays (`prunetune.testing.oracle`).
"""

from __future__ import annotations

import fnmatch
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.common.command import command, provenance, write
from benchmarks.common.processes import Task, run_all
from benchmarks.common.tables import table
from benchmarks.engine.cases import FAMILIES
from benchmarks.exactness.runs import JUDGED, VERDICTS, judge, row, verdict_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the models that the command line names; returns 1 if one is not exact."""
    parser = command("exactness", __doc__, file="write every verdict to this file", markdown=False)
    parser.add_argument("--family", nargs="+", choices=JUDGED, default=list(JUDGED), metavar="NAME")
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the models whose names match")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds a model")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    tasks = [
        Task((name, model), functools.partial(judge, FAMILIES[name], model), options.timeout)
        for name in options.family
        for model in fnmatch.filter(FAMILIES[name].names(), options.model)
    ]
    counts = {name: [0, 0, 0] for name in options.family}  # exact, wrong or failed, not judged
    worst = dict.fromkeys(options.family, 0.0)
    found: list[dict[str, Any]] = []
    for task, outcome in run_all(tasks):
        family, model = task.key
        verdict = verdict_of(outcome)
        counts[family][verdict] += 1
        error = outcome.values.get("error")
        worst[family] = max(worst[family], error or 0.0)
        said = f"error {error:.1e}" if error is not None else outcome.failure
        print(f"{family:<14} {model:<32} {VERDICTS[verdict]:<10} {said}", flush=True)
        found.append(row(family, model, verdict, outcome.values, outcome.failure))
    rows = [[name, *counts[name], f"{worst[name]:.1e}"] for name in options.family]
    print(f"\n{table(['family', 'exact', 'wrong', 'not judged', 'largest error'], rows, markdown=False)}")
    write(options.json, {"benchmark": "exactness", **provenance(), "seeds": [0], "models": found})
    return int(any(wrong for _, wrong, _ in counts.values()))


if __name__ == "__main__":
    raise SystemExit(main())
