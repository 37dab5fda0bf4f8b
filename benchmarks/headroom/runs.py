"""How much of a trial's time a proxy saves: a training step, and a whole trial with its data and its evaluation.

For each network of the paper two proxies, beside the full network in one run: that of the paper's own rule (p = 85,
floor 0.15), and one of ours that is smaller. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from benchmarks.engine.report import table
from benchmarks.pipeline.runs import RECIPES, pictures
from prunetune import PruneResult, keep_freed_memory, prune
from prunetune.data import ImageData
from prunetune.pruning.isolated_timing import fresh_step_time
from prunetune.record.provenance import machine, versions
from prunetune.training import ImageClassification
from prunetune.training.augment import augment
from prunetune.training.image_classification import accuracy
from prunetune.transfer.groups import plain_groups
from prunetune.zoo import models

Clock: TypeAlias = Callable[[], float]

CLASSES: Final = 10
HEADER: Final = (
    "network", "proxy", "parameters, %", "FLOPs, %", "blocks bypassed",
    "step ms", "step of the proxy ms", "step saved, %", "trial s", "trial of the proxy s", "trial saved, %",
    "augmentation, %", "evaluation, %", "the paper saved, %",
)  # fmt: skip
PAPER: Final = "the paper's rule: p = 85, floor 0.15"
PROCESS: Final = "process"
WALL: Final = "wall"
CLOCKS: Final[Mapping[str, Clock]] = {PROCESS: time.process_time, WALL: time.perf_counter}


@dataclass(frozen=True)
class Network:
    """A network, the percentage that the paper reports for it on CIFAR-10 if it does, and a proxy of ours."""

    name: str
    paper_saved: int | None
    ours: str
    budget: Mapping[str, Any]


NETWORKS: Final = (
    Network("vgg16-bn", 23, "ours: a quarter of the width", {"ratio": 0.25}),
    Network("mobilenetv2", 32, "ours: an eighth of the width", {"ratio": 0.125}),
    Network("resnet56", 12, "ours: FLOPs 0.01, depth", {"flops": 0.01, "depth": True, "floor": 0.1}),
    Network("vgg19-bn", None, "ours: a quarter of the width", {"ratio": 0.25}),
    Network("resnet20", None, "ours: FLOPs 0.02, depth", {"flops": 0.02, "depth": True, "floor": 0.1}),
)
"""Those of the paper's Table 3, which has times; VGG19-BN of its Table 1, and a smaller member of the ResNets."""


@dataclass(frozen=True)
class Scale:
    """How much is measured: images in a trial's epoch, and in a step; seconds of timing steps; trials of each network.

    The evaluation has a ninth as many images as the epoch, as in the usual split of CIFAR's 50,000.
    """

    images: int
    batch: int
    seconds: float
    rounds: int


SCALES: Final = {
    "smoke": Scale(16, 8, 0.1, 1),
    "cpu": Scale(1152, 128, 12.0, 3),
    "full": Scale(45_000, 128, 20.0, 3),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.headroom", description=__doc__)
    parser.add_argument(
        "--scale", choices=SCALES, default="cpu", help="smoke, cpu (15 minutes of a core), full (a GPU)"
    )
    names = [network.name for network in NETWORKS]
    parser.add_argument("--model", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in this process (1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # trials are trained in this process, as `tune` trains them
    result: dict[str, Any] = {}
    for result in run(options):
        if options.json is not None:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(report(result, markdown=options.markdown))
    return 0


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Everything that the run has found, after each network."""
    scale, device = SCALES[options.scale], torch.device(options.device)
    size, recipe = RECIPES["cifar"]
    data = pictures(scale.images, size, recipe, options.seed)
    ninth = max(1, scale.images // 9)
    data = replace(data, val_images=data.val_images[:ninth], val_labels=data.val_labels[:ninth]).to(device)
    chosen = [network for network in NETWORKS if network.name in options.model]
    clock = PROCESS if device.type == "cpu" and options.threads == 1 else WALL
    found = {}
    net = models["resnet8"](CLASSES, 3).to(device)  # to ask where it is
    for network in chosen:
        found[network.name] = measure(network, data, scale, clock, options.seed)
        print(f"{network.name}: {found[network.name]['step_time_saved']:.1%} of a step", file=sys.stderr, flush=True)
        yield {
            "benchmark": "headroom",
            "settings": {"scale": options.scale, "device": options.device, "clock": clock, **vars(scale)},
            "seeds": [options.seed],
            "machine": {**machine(net), "threads": options.threads, "load": os.getloadavg()[0]},
            "versions": versions(),
            "networks": found,
        }


def measure(network: Network, data: ImageData, scale: Scale, clock: str, seed: int) -> dict[str, Any]:
    """What each proxy of a network saves; the network's own figures are those of the proxy that is fastest."""
    torch.manual_seed(seed)
    base = models[network.name](CLASSES, 3).to(data.device)
    images = data.normalize(data.train_images[: scale.batch])
    results = {
        PAPER: prune(base, images, scorer="synflow", percentile=85, floor=0.15),
        network.ours: prune(base, images, scorer="uniform", **network.budget),
    }
    everyone = {"base": base, **{name: result.model for name, result in results.items()}}
    steps = fresh_step_time(everyone, images, seconds=scale.seconds, clock=CLOCKS[clock])
    trials = trial_seconds(everyone, data, scale, seed)
    rows = {
        name: {
            **_left(result),
            **_saved("step", steps[name], steps["base"]),
            **_saved("trial", trials[clock][name], trials[clock]["base"]),
            "trial_wall_seconds": trials[WALL][name],
            "augmentation_share": trials["augmentation"][name] / trials[clock][name],
            "evaluation_share": trials["evaluation"][name] / trials[clock][name],
        }
        for name, result in results.items()
    }
    best = max(rows.values(), key=lambda row: row["trial_time_saved"])
    return {
        **{name: best[name] for name in ("step_time_saved", "trial_time_saved")},
        "paper_saved": None if network.paper_saved is None else network.paper_saved / 100,
        "step_seconds": steps["base"],
        "trial_seconds": trials[clock]["base"],
        "trial_wall_seconds": trials[WALL]["base"],
        "proxies": rows,
    }


def _left(result: PruneResult) -> dict[str, Any]:
    cost = result.cost
    return {
        "parameters_left": cost.proxy.parameters / cost.base.parameters,
        "flops_left": cost.proxy.flops / cost.base.flops,
        "blocks_bypassed": len(result.bypassed),
    }


def _saved(what: str, proxy: float, base: float) -> dict[str, float]:
    return {f"{what}_seconds": proxy, f"{what}_time_saved": 1 - proxy / base}


class Epoch:
    """What a train function is told of a trial of one epoch."""

    epochs = 1
    resolution = data = 1.0

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, score: float, epoch: int) -> None:
        pass

    param_groups = staticmethod(functools.partial(plain_groups, optimizer="sgd"))


def trial_seconds(
    networks: Mapping[str, nn.Module], data: ImageData, scale: Scale, seed: int
) -> dict[str, dict[str, float]]:
    """Median seconds of a whole trial of one epoch of the built-in loop, with its data and its evaluation, in turns.

    By clock, and, as "augmentation" and "evaluation", of these parts of a trial alone. A device of its own is warmed
    up by one more round.
    """
    job, elsewhere = ImageClassification(data), data.device.type != "cpu"
    own = WALL if elsewhere or torch.get_num_threads() > 1 else PROCESS
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(scale.rounds + elsewhere):
        for name, network in networks.items():
            params = {"batch_size": scale.batch, "learning_rate": 1e-3}
            whole = _timed(lambda: job(network, params, Epoch(seed)), data.device)  # type: ignore[arg-type]  # noqa: B023
            if number or not elsewhere:
                parts = {
                    "augmentation": _timed(lambda: _augmented(data, scale.batch, seed), data.device)[own],
                    "evaluation": _timed(lambda: accuracy(network, data, "val"), data.device)[own],  # noqa: B023
                }
                for what, value in {**whole, **parts}.items():
                    seconds.setdefault(what, {}).setdefault(name, []).append(value)
    return {what: {name: statistics.median(each) for name, each in of.items()} for what, of in seconds.items()}


def _timed(function: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Seconds that a call takes, by every clock; all that the device has to do is done at both ends."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = {name: clock() for name, clock in CLOCKS.items()}
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}


def _augmented(data: ImageData, batch: int, seed: int) -> None:
    """Make the batches of an epoch, as the built-in loop does, and do nothing with them."""
    generator = torch.Generator(data.device).manual_seed(seed)
    order = torch.randperm(len(data.train_labels), generator=generator, device=data.device)
    for part in torch.split(order, batch):
        data.normalize(augment(data.train_images[part], data.augmentation, generator))


def report(result: Mapping[str, Any], *, markdown: bool) -> str:
    """The table."""
    body = []
    for name, found in result["networks"].items():
        for proxy, row in found["proxies"].items():
            body.append([
                name, proxy, 100 * row["parameters_left"], 100 * row["flops_left"], row["blocks_bypassed"],
                1e3 * found["step_seconds"], 1e3 * row["step_seconds"], 100 * row["step_time_saved"],
                found["trial_seconds"], row["trial_seconds"], 100 * row["trial_time_saved"],
                100 * row["augmentation_share"], 100 * row["evaluation_share"],
                None if found["paper_saved"] is None else 100 * found["paper_saved"],
            ])  # fmt: skip
    return table(HEADER, body, markdown=markdown)


if __name__ == "__main__":
    sys.exit(main())
