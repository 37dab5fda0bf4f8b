"""Does `prune(speedup=5)` give a network that is five times faster? Timed by code that is not the engine's.

For each network a child process prunes and saves the proxy's plan, and another, which has not seen the pruning, times
training steps (forward, loss, backward, no optimizer) of the full network and of the proxy in turns. It keeps the
memory that it frees, as `tune` does; a third does not ("allocator alone": what a script sees that does not call
`prunetune.keep_freed_memory`).
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from benchmarks.common.processes import Outcome, Report, Task, run_all
from benchmarks.engine.report import table
from prunetune import PruningPlan, keep_freed_memory, prune
from prunetune.engine import apply
from prunetune.errors import BudgetError
from prunetune.record.provenance import machine, versions
from prunetune.zoo import models

CLASSES = 10
LIMIT = 3600.0
SEED = 0
MOST_OFF = 10.0
HEADER = (
    "network",
    "asked for",
    "reported",
    "measured here",
    "off by, %",
    "allocator alone",
    "blocks bypassed",
    "prune s",
    "failure",
)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "vgg16-bn": (lambda: models["vgg16-bn"](CLASSES, 3), False),
    "mobilenetv2": (lambda: models["mobilenetv2"](CLASSES, 3), False),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=CLASSES), False),
    "resnet56": (lambda: models["resnet56"](CLASSES, 3), False),
    "resnet56, deep": (lambda: models["resnet56"](CLASSES, 3), True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prune and time what the command line names; returns 1 if a proxy is over a tenth off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speedup", description=__doc__)
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the networks whose names match")
    parser.add_argument("--speedup", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=128, help="images of 32x32 in a step (128)")
    parser.add_argument("--seconds", type=float, default=40.0, help="for which steps are timed (40)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    rows = []
    for name in fnmatch.filter(NETWORKS, options.model):
        rows.append(judge(name, options))
        print(f"{name:<24} {rows[-1]['measured here'] or rows[-1]['failure']}", file=sys.stderr, flush=True)
    if options.json is not None:
        where = {**machine(nn.Linear(1, 1)), "threads": options.threads}
        found = {"machine": where, "versions": versions(), "seeds": [SEED], "batch": options.batch, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(HEADER, [[row[column] for column in HEADER] for row in rows], markdown=options.markdown))
    return int(any(abs(row["off by, %"] or 0.0) > MOST_OFF for row in rows))


def judge(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: what was asked for, what `prune` measured, and what is measured here."""
    row: dict[str, Any] = {**dict.fromkeys(HEADER), "network": name, "asked for": options.speedup, "failure": ""}
    pruned = alone(functools.partial(cut, name, options.speedup, options.batch, options.threads))
    row["prune s"] = pruned.values.get("seconds")
    row["failure"] = pruned.failure or pruned.values.get("refused", "")
    if row["failure"]:
        return row
    plan = pruned.values["plan"]
    how = (name, plan, options.batch, options.seconds, options.threads)
    ratio, default = (alone(functools.partial(timed, *how, keep)).values["ratio"] for keep in (True, False))
    row.update(
        {
            "reported": pruned.values["speedup"],
            "measured here": ratio,
            "allocator alone": default,
            "blocks bypassed": pruned.values["bypassed"],
        }
    )
    row["off by, %"] = 100 * (ratio / options.speedup - 1)
    return row


def alone(function: Callable[[Report], None]) -> Outcome:
    """What a function reports from a process of its own."""
    ((_, outcome),) = run_all([Task(("speedup",), function, LIMIT)])
    return outcome


def cut(name: str, speedup: float, batch: int, threads: int, report: Report) -> None:
    """Prune, and report the plan."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    build, depth = NETWORKS[name]
    images = torch.randn(batch, 3, 32, 32)
    start = time.perf_counter()
    try:
        result = prune(build(), images, scorer="synflow-absolute", speedup=speedup, depth=depth)
    except BudgetError as error:
        report.add(refused=str(error), seconds=time.perf_counter() - start)
        return
    report.add(
        plan=result.plan.to_json(),
        speedup=result.measurements[-1].speedup,
        bypassed=len(result.bypassed),
        seconds=time.perf_counter() - start,
    )


def timed(name: str, plan: str, batch: int, seconds: float, threads: int, keep: bool, report: Report) -> None:
    """Report how many times faster the proxy's training step is: the median of ratios, measured in turns."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    full = NETWORKS[name][0]()
    networks = [full, apply(PruningPlan.from_json(plan), full)]
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(CLASSES, (batch,))
    times: list[list[float]] = [[], []]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(times[0]) < 5:
        for network, own in zip(networks, times, strict=True):
            network.zero_grad()
            start = time.monotonic()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            own.append(time.monotonic() - start)
    base, proxy = (own[1:] for own in times)  # the first warms up
    report.add(ratio=statistics.median(full / small for full, small in zip(base, proxy, strict=True)))


if __name__ == "__main__":
    raise SystemExit(main())
