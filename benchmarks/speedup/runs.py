"""A network pruned for a speed-up, and timed by a process that has not seen the pruning."""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torchvision
from torch import nn

from benchmarks.common.processes import Outcome, Report, Task, run_all
from prunetune import PruningPlan, keep_freed_memory, prune
from prunetune.engine import apply
from prunetune.errors import BudgetError
from prunetune.zoo import models

CLASSES = 10
LIMIT = 3600.0
SEED = 0
MOST_OFF = 10.0
HEADER = (
    "network",
    "version",
    "asked for",
    "reported",
    "measured here",
    "off by, %",
    "allocator alone",
    "blocks bypassed",
    "measurements",
    "processor s",
    "failure",
)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "vgg16-bn": (lambda: models["vgg16-bn"](CLASSES, 3), False),
    "mobilenetv2": (lambda: models["mobilenetv2"](CLASSES, 3), False),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=CLASSES), False),
    "resnet56": (lambda: models["resnet56"](CLASSES, 3), False),
    "resnet56, deep": (lambda: models["resnet56"](CLASSES, 3), True),
}


def judge(name: str, version: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: what was asked for, what `prune` measured, and what is measured here; "before" is another checkout."""
    row: dict[str, Any] = {**dict.fromkeys(HEADER), "network": name, "version": version, "asked for": options.speedup}
    what = (name, options.speedup, options.batch, options.threads)
    pruned = alone(functools.partial(cut if version == "now" else functools.partial(before, options.before), *what))
    row["processor s"] = pruned.values.get("seconds")
    row["failure"] = pruned.failure or pruned.values.get("refused", "")
    if row["failure"]:
        return row
    plan = pruned.values["plan"]
    how = (name, plan, options.batch, options.seconds, options.threads)
    ratio, default = (alone(functools.partial(timed, *how, keep)).values["ratio"] for keep in (True, False))
    row.update(
        {
            "reported": pruned.values["speedup"],
            "measurements": pruned.values["measurements"],
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


def cut(name: str, speedup: float, batch: int, threads: int, report: Report | SimpleNamespace) -> None:
    """Prune, and report the plan."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    build, depth = NETWORKS[name]
    images = torch.zeros(batch, 3, 32, 32)
    start = processor_seconds()
    try:
        result = prune(build(), images, scorer="synflow-absolute", speedup=speedup, depth=depth)
    except BudgetError as error:
        report.add(refused=str(error), seconds=processor_seconds() - start)
        return
    report.add(
        plan=result.plan.to_json(),
        speedup=result.measurements[-1].speedup,
        bypassed=len(result.bypassed),
        measurements=len(result.measurements),
        seconds=processor_seconds() - start,
    )


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def before(checkout: Path, name: str, speedup: float, batch: int, threads: int, report: Report) -> None:
    """As `cut`, by the code of another checkout."""
    from benchmarks.speedup import rivals

    paths = os.pathsep.join([str(checkout / "src"), os.getcwd()])
    command = [sys.executable, "-m", rivals.__name__, name, str(speedup), str(batch), str(threads)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, check=True)
    report.add(**json.loads(done.stdout))


def timed(name: str, plan: str, batch: int, seconds: float, threads: int, keep: bool, report: Report) -> None:
    """Report how many times faster the proxy's training step is: the median of ratios, measured in turns."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.monotonic  # the former does not count what else runs
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
            start = clock()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            own.append(clock() - start)
    base, proxy = (own[1:] for own in times)  # the first warms up
    report.add(ratio=statistics.median(full / small for full, small in zip(base, proxy, strict=True)))
