"""Predicted beside measured: the time of a training step of networks and of cuts of them.

`prunetune.engine.calibrate` measures small networks; none of those that are judged here is among them. See README.md in
this folder.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from benchmarks.common import lines
from benchmarks.common.densenet import densenet_cifar
from benchmarks.common.shufflenetv2 import shufflenetv2
from benchmarks.engine.report import table
from prunetune import keep_freed_memory
from prunetune.engine import DependencyGraph, PruningPlan, StepTimeModel, apply, by_percentile, by_ratio, calibrate
from prunetune.engine.cost import Clock, cost_of, step_time
from prunetune.engine.selection.ranking import Mask, Scores
from prunetune.zoo import models as zoo

Row = dict[str, Any]
"""One cut of one network: what it was predicted to take, by each method, and what it took."""

OURS, ANCHORED = "operations", "operations, anchored"
FLOPS, PLAIN = "FLOPs", "a·FLOPs + b·activations + c·operations"


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    batch: int
    size: int


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        network: nn.Module = torchvision.models.get_model(name, weights=None)
        return network

    return build


SMALL = {
    **{name: zoo[name] for name in ("vgg16-bn", "resnet20", "resnet56", "mobilenetv2")},
    "densenet-cifar": densenet_cifar,
    "shufflenetv2": shufflenetv2,
}
TORCHVISION = ("resnet18", "mobilenet_v2", "efficientnet_b0", "vit_b_16", "convnext_tiny", "regnet_y_400mf")
CASES: Mapping[str, Case] = {
    **{name: Case(functools.partial(build, 10, 3), 128, 32) for name, build in SMALL.items()},
    **{name: Case(_torchvision(name), 4, 224) for name in TORCHVISION},
}
CUTS = ("1", "1/2", "1/4", "p85")


def main(arguments: Sequence[str] | None = None, cases: Mapping[str, Case] = CASES) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_time", description=__doc__)
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the networks whose names match")
    parser.add_argument("--batch", type=int, metavar="N", help="images in a batch (128 of 32 pixels, 4 of 224)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="for measuring, a network with its cuts"
    )
    parser.add_argument("--calibration", type=float, default=10.0, metavar="S", help="for measuring the small networks")
    parser.add_argument("--device", default="cpu")
    lines.add_arguments(parser, resume=False)
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    options = parser.parse_args(arguments)
    lines.earlier(options, parser)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()  # as in the processes in which `prune(speedup=)` measures, and proxies are trained
    # On one thread the process's time is what a step takes if nothing else runs; a device does not count in it.
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    start = time.perf_counter()
    model = calibrate(options.device, seconds=options.calibration, clock=clock)
    print(f"calibrated in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    rows = []
    for name in fnmatch.filter(cases, options.model):
        for row in measured(name, cases[name], model, options, clock):
            rows.append(row)
            print(_line(row), file=sys.stderr, flush=True)
    if not rows:
        parser.error(f"no network matches {options.model!r}")
    rivals(rows)
    with lines.sitting(options.json, "torchvision", threads=1, seeds=[0]) as write:
        for row in rows:
            write(row)
    print(report(rows, markdown=options.markdown))
    return 0


def measured(name: str, case: Case, model: StepTimeModel, options: argparse.Namespace, clock: Clock) -> Iterator[Row]:
    """Every cut of a network, and the network itself once more: how far two measurements of it are apart."""
    torch.manual_seed(0)
    network = case.build()
    inputs = torch.randn(options.batch or case.batch, 3, case.size, case.size)
    graph = DependencyGraph.of(network, inputs)
    scores = uneven(graph)
    masks = {cut: mask(graph, scores, cut) for cut in CUTS}
    networks = {cut: apply(PruningPlan.of(graph, keep), network).to(options.device) for cut, keep in masks.items()}
    networks["again"] = networks["1"]
    seconds = step_time(networks, inputs, seconds=options.seconds, clock=clock)
    anchored = model.anchored(graph, seconds["1"])
    for cut, keep in masks.items():
        cost = cost_of(graph, keep)
        yield {
            "model": name,
            "cut": cut,
            "measured": seconds[cut],
            "again": seconds["again"] if cut == "1" else None,
            "flops": cost.flops,
            "activations": cost.activations,
            "operations": len(graph.operations),
            "predicted": {OURS: model.predict(graph, keep), ANCHORED: anchored.predict(graph, keep)},
        }


def uneven(graph: DependencyGraph) -> Scores:
    """Random scores that differ from group to group, as real ones do: some layers stay whole, others become narrow."""
    rng = np.random.default_rng(0)
    scores = rng.random(graph.unit_count + 1)
    for group in graph.groups:
        scores[list(group.units)] *= rng.lognormal(sigma=0.7)
    return scores


def mask(graph: DependencyGraph, scores: Scores, cut: str) -> Mask:
    if cut == "p85":
        return by_percentile(graph, scores, percentile=85, floor=0.15)
    return by_ratio(graph, scores, ratio={"1": 1.0, "1/2": 0.5, "1/4": 0.25}[cut])


def rivals(rows: Sequence[Row]) -> None:
    """Add what simpler formulas say. They are fitted to the other networks of this very run, which is a head start."""
    formulas = {FLOPS: ("flops",), PLAIN: ("flops", "activations", "operations")}
    for method, names in formulas.items():
        for model in dict.fromkeys(row["model"] for row in rows):
            others = [row for row in rows if row["model"] != model] or rows
            table = np.array([[row[n] / row["measured"] for n in names] for row in others])
            unit = table.max(axis=0)
            factors = nnls(table / unit, np.ones(len(others)))[0] / unit
            for row in rows:
                if row["model"] == model:
                    row["predicted"][method] = float(sum(f * row[n] for f, n in zip(factors, names, strict=True)))


def errors(rows: Sequence[Row], method: str) -> tuple[list[float], list[float]]:
    """Relative errors of the seconds, and of the speed-ups over the full network, which is not among these."""
    full = {row["model"]: row for row in rows if row["cut"] == "1"}
    seconds = [abs(row["predicted"][method] / row["measured"] - 1) for row in rows]
    speedups = []
    for row in rows:
        if row["cut"] != "1":
            base = full[row["model"]]
            predicted = base["predicted"][method] / row["predicted"][method]
            speedups.append(abs(predicted / (base["measured"] / row["measured"]) - 1))
    return seconds, speedups


def report(rows: Sequence[Row], *, markdown: bool) -> str:
    """What was predicted and measured, and the errors of each method."""
    full = {row["model"]: row for row in rows if row["cut"] == "1"}
    body = []
    for row in rows:
        base, predicted = full[row["model"]], row["predicted"][OURS]
        faster, expected = base["measured"] / row["measured"], base["predicted"][OURS] / predicted
        off = 100 * (predicted / row["measured"] - 1)
        body.append([row["model"], row["cut"], 1000 * row["measured"], 1000 * predicted, off, faster, expected,
                     100 * (expected / faster - 1)])  # fmt: skip
    header = ["network", "cut", "ms", "predicted", "off, %", "speed-up", "predicted", "off, %"]
    parts = [table(header, body, markdown=markdown)]
    summary: list[Sequence[object]] = []
    for method in (OURS, ANCHORED, PLAIN, FLOPS):
        seconds, speedups = errors(rows, method)
        summary.append([method, *(100 * v for e in (seconds, speedups) for v in _spread(e))])
    apart = [abs(row["again"] / row["measured"] - 1) for row in full.values()]
    summary.append(["(the same network measured twice)", *(100 * v for v in _spread(apart)), None, None])
    header = ["method", "seconds: median error, %", "90th percentile", "speed-up: median error, %", "90th percentile"]
    return "\n\n".join([*parts, table(header, summary, markdown=markdown)])


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return (median(values), float(np.quantile(values, 0.9))) if values else (0.0, 0.0)


def _line(row: Row) -> str:
    return f"{row['model']:<18} {row['cut']:<4} {row['measured']:8.3f} s  predicted {row['predicted'][OURS]:8.3f} s"


if __name__ == "__main__":
    sys.exit(main())
