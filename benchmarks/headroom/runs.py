"""What a proxy saves of a training step and of a whole trial."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from benchmarks.common.command import provenance
from benchmarks.common.reports import PlainReport
from benchmarks.headroom.cases import NETWORKS, PAPER, SCALES, Network, Scale
from benchmarks.pipeline.runs import RECIPES, pictures
from prunetune import PruneResult, prune
from prunetune.data import ImageData
from prunetune.engine import step_time
from prunetune.training import ImageClassification
from prunetune.training.augment import augment
from prunetune.training.image_classification import accuracy
from prunetune.zoo import models

Clock: TypeAlias = Callable[[], float]

CLASSES: Final = 10
PROCESS: Final = "process"
WALL: Final = "wall"
CLOCKS: Final[Mapping[str, Clock]] = {PROCESS: time.process_time, WALL: time.perf_counter}


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
    for network in chosen:
        found[network.name] = measure(network, data, scale, clock, options.seed)
        print(f"{network.name}: {found[network.name]['step_time_saved']:.1%} of a step", file=sys.stderr, flush=True)
        yield {
            "benchmark": "headroom",
            "settings": {"scale": options.scale, "device": options.device, "clock": clock, **vars(scale)},
            "seeds": [options.seed],
            **provenance(device, load=True, threads=options.threads),
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
    steps = step_time(everyone, images, seconds=scale.seconds, clock=CLOCKS[clock])
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
            whole = _timed(lambda: job(network, params, PlainReport(seed, epochs=1)), data.device)  # type: ignore[arg-type]  # noqa: B023
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
