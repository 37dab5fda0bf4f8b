"""How much of a trial's time a proxy saves: a training step, and a whole trial with its data and its evaluation.

For each network of the paper two proxies, beside the full network in one run: the paper's own (p = 85, floor 0.15), and
one that is smaller. See README.md in this folder.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from benchmarks.engine_report import table
from benchmarks.pipeline import RECIPES, pictures
from prunetune import PruneResult, prune
from prunetune.data import ImageData
from prunetune.fresh import fresh_step_time
from prunetune.jobs import ImageClassification
from prunetune.record import machine, versions
from prunetune.transfer.groups import plain_groups
from prunetune.zoo import models

Clock: TypeAlias = Callable[[], float]

CLASSES: Final = 10
HEADER: Final = (
    "network", "proxy", "parameters, %", "FLOPs, %", "blocks bypassed",
    "step ms", "step of the proxy ms", "step saved, %", "trial s", "trial of the proxy s", "trial saved, %",
    "the paper saved, %",
)  # fmt: skip
PAPER: Final = "p = 85, floor 0.15"


@dataclass(frozen=True)
class Network:
    """A network of the paper, the percentage that the paper reports for it on CIFAR-10, and a proxy of ours."""

    name: str
    paper_saved: int
    ours: str
    budget: Mapping[str, Any]


NETWORKS: Final = (
    Network("vgg16-bn", 23, "a quarter of the width", {"ratio": 0.25}),
    Network("mobilenetv2", 32, "an eighth of the width", {"ratio": 0.125}),
    Network("resnet56", 12, "FLOPs 0.02, depth, floor 0.05", {"flops": 0.02, "depth": True, "floor": 0.05}),
)


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
    "cpu": Scale(1152, 128, 20.0, 3),
    "full": Scale(45_000, 128, 20.0, 3),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.headroom", description=__doc__)
    parser.add_argument(
        "--scale", choices=SCALES, default="cpu", help="smoke, cpu (20 minutes of a core), full (a GPU)"
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
    result = run(options)
    print(report(result, markdown=options.markdown))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the run found."""
    scale, device = SCALES[options.scale], torch.device(options.device)
    size, recipe = RECIPES["cifar"]
    data = pictures(scale.images, size, recipe, options.seed)
    ninth = max(1, scale.images // 9)
    data = replace(data, val_images=data.val_images[:ninth], val_labels=data.val_labels[:ninth]).to(device)
    chosen = [network for network in NETWORKS if network.name in options.model]
    found = {}
    net = models["resnet8"](CLASSES, 3).to(device)  # to ask where it is
    for network in chosen:
        found[network.name] = measure(network, data, scale, options.seed)
        print(f"{network.name}: {found[network.name]['step_time_saved']:.1%} of a step", file=sys.stderr, flush=True)
    return {
        "benchmark": "headroom",
        "settings": {"scale": options.scale, "device": options.device, **vars(scale)},
        "seeds": [options.seed],
        "machine": {**machine(net), "threads": options.threads, "load": os.getloadavg()[0]},
        "versions": versions(),
        "networks": found,
    }


def measure(network: Network, data: ImageData, scale: Scale, seed: int) -> dict[str, Any]:
    """What each proxy of a network saves; the network's own figures are those of the proxy that is fastest."""
    torch.manual_seed(seed)
    base = models[network.name](CLASSES, 3).to(data.device)
    images = data.normalize(data.train_images[: scale.batch])
    results = {
        PAPER: prune(base, images, scorer="synflow", percentile=85, floor=0.15),
        network.ours: prune(base, images, scorer="uniform", **network.budget),
    }
    everyone = {"base": base, **{name: result.model for name, result in results.items()}}
    steps = fresh_step_time(everyone, images, seconds=scale.seconds)
    trials = trial_seconds(everyone, data, scale, seed)
    rows = {name: _row(result, name, steps, trials) for name, result in results.items()}
    best = max(rows.values(), key=lambda row: row["trial_time_saved"])
    return {
        **{name: best[name] for name in ("step_time_saved", "trial_time_saved")},
        "paper_saved": network.paper_saved / 100,
        "step_seconds": steps["base"],
        "trial_seconds": trials["base"],
        "proxies": rows,
    }


def _row(result: PruneResult, name: str, steps: Mapping[str, float], trials: Mapping[str, float]) -> dict[str, Any]:
    cost = result.cost
    return {
        "parameters_left": cost.proxy.parameters / cost.base.parameters,
        "flops_left": cost.proxy.flops / cost.base.flops,
        "blocks_bypassed": len(result.bypassed),
        "step_seconds": steps[name],
        "trial_seconds": trials[name],
        "step_time_saved": 1 - steps[name] / steps["base"],
        "trial_time_saved": 1 - trials[name] / trials["base"],
    }


class Epoch:
    """What a train function is told of a trial of one epoch."""

    epochs = 1
    resolution = data = 1.0

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, score: float, epoch: int) -> None:
        pass

    param_groups = staticmethod(functools.partial(plain_groups, optimizer="sgd"))


def trial_seconds(networks: Mapping[str, nn.Module], data: ImageData, scale: Scale, seed: int) -> dict[str, float]:
    """Median seconds of a whole trial of one epoch of the built-in loop, with its data and its evaluation, in turns.

    Processor time on the CPU, where other processes come and go; time on the wall on a device of its own, where the
    first round warms up.
    """
    job, warm_up = ImageClassification(data), data.device.type != "cpu"
    clock: Clock = time.perf_counter if warm_up else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(scale.rounds + warm_up):
        for name, network in networks.items():
            start = clock()
            job(network, {"batch_size": scale.batch, "learning_rate": 1e-3}, Epoch(seed))  # type: ignore[arg-type]
            if number or not warm_up:
                seconds[name].append(clock() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def report(result: Mapping[str, Any], *, markdown: bool) -> str:
    """The table."""
    body = []
    for name, found in result["networks"].items():
        for proxy, row in found["proxies"].items():
            body.append([
                name, proxy, 100 * row["parameters_left"], 100 * row["flops_left"], row["blocks_bypassed"],
                1e3 * found["step_seconds"], 1e3 * row["step_seconds"], 100 * row["step_time_saved"],
                found["trial_seconds"], row["trial_seconds"], 100 * row["trial_time_saved"], 100 * found["paper_saved"],
            ])  # fmt: skip
    return table(HEADER, body, markdown=markdown)


if __name__ == "__main__":
    sys.exit(main())
