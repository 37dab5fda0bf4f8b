"""Does a proxy rank hyperparameters as the full network does? Every scorer and every rival at equal cost.

The same configurations are trained on the full network with several seeds, on every scorer's proxy, and by every cheap
use of the full network itself. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import nn

from benchmarks.engine.report import table
from benchmarks.time_to_quality.cases import BASES
from prunetune import PruningPlan, prune
from prunetune._utils.caller import seed_all
from prunetune.comparison.rivals import at_cost
from prunetune.data import ImageData, datasets
from prunetune.engine import fresh_proxy
from prunetune.record.provenance import machine, versions
from prunetune.stats.bootstrap import confirmed, rank_correlation, rank_correlations, ranking
from prunetune.training import ImageClassification
from prunetune.training.image_classification import accuracy
from prunetune.training.schedules import cosine
from prunetune.transfer.groups import plain_groups, proxy_groups
from prunetune.zoo import models

Row: TypeAlias = dict[str, Any]
KEY: Final = ("base", "arm", "configuration", "seed")
TRUTH_SEEDS: Final = (1, 2)
"""Of the full network's trainings that say how good a configuration is; seed 0 is the one that may choose."""
TOP: Final = 3

SCORERS: Final = (
    "synflow", "synflow-absolute", "synflow-iterative", "3sp", "snip", "grasp", "taylor", "magnitude", "magnitude-l2",
    "fpgm", "random",
)  # fmt: skip
"""Those that need no trained network."""


@dataclass(frozen=True)
class Base:
    """A full network and how it is trained: ``share`` is what a quarter of its width costs, which rivals may cost."""

    model: str
    dataset: str
    pixels: int
    images: int
    epochs: int
    share: float
    smaller: str | None = None


@dataclass(frozen=True)
class Scale:
    """What is run: full networks, configurations, scorers besides the uniform one."""

    bases: tuple[Base, ...]
    configurations: int
    scorers: tuple[str, ...]


SCALES: Final = {
    "smoke": Scale((Base("resnet8", "digits", 8, 192, 2, 0.5),), 3, ("synflow",)),
    "cpu": Scale(
        (
            Base("resnet14", "fashion-mnist", 14, 2000, 5, 0.4, "resnet8"),
            Base("vgg4-bn", "fashion-mnist", 14, 2000, 5, 0.17),
        ),
        26,
        SCORERS,
    ),
    "full": Scale(
        (
            Base("resnet56", "cifar10", 32, 45_000, 40, 0.25, "resnet20"),
            Base("vgg16-bn", "cifar10", 32, 45_000, 40, 0.07, "vgg11-bn"),
        ),
        48,
        SCORERS,
    ),
}


@dataclass(frozen=True)
class Arm:
    """One way to judge a configuration: which network, for how many epochs, stopped after how many, on what data."""

    name: str
    prune: Mapping[str, Any] | None = None
    transfer: str = "mup"
    model: str | None = None
    epochs: int | None = None
    stop_after: int | None = None
    data: float = 1.0
    kind: str = "proxy"


def arms(base: Base, scale: Scale) -> list[Arm]:
    """The full network, the proxies, and the rivals at a quarter width's cost."""
    quarter = {"scorer": "uniform", "ratio": 0.25}
    found = [
        Arm("base", kind="base"),
        Arm("the paper's rule", {"scorer": "synflow", "percentile": 85, "floor": 0.15}, "identity"),
        Arm("the paper's rule, mup", {"scorer": "synflow", "percentile": 85, "floor": 0.15}),
        Arm("uniform, identity", quarter, "identity"),
        Arm("uniform", quarter),
        *(Arm(name, {"scorer": name, "flops": "as a quarter of the width", "floor": 0.05}) for name in scale.scorers),
    ]
    for name in ("fewer epochs", "stopped early", "less data", "one epoch"):
        cut = at_cost(name.replace(" ", "-"), base.share, base.epochs)
        found.append(Arm(name, epochs=cut.epochs, stop_after=cut.stop_after, data=cut.data, kind="rival"))
    if base.smaller:
        found.append(Arm(f"a smaller member ({base.smaller})", model=base.smaller, kind="rival"))
    return found


def configurations(count: int) -> list[dict[str, Any]]:
    """Points of a scrambled Sobol sequence: learning rate and weight decay on logarithmic scales, momentum, batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sequence is balanced for powers of two only
        cube = qmc.Sobol(4, seed=0).random(count)
    return [
        {
            "learning_rate": 10 ** (-3.5 + 3.5 * a),
            "weight_decay": 10 ** (-5 + 3 * b),
            "momentum": 0.5 + 0.49 * c,
            "batch_size": (16, 32, 64, 128)[int(4 * d)],
        }
        for a, b, c, d in cube.tolist()
    ]


class Report:
    """What a train function is told: epochs, a seed, parameter groups; it may end the training."""

    resolution = data = 1.0

    def __init__(self, seed: int, epochs: int, groups: Callable[..., list[dict[str, Any]]], stop: int | None) -> None:
        self.seed, self.epochs, self.stop, self._groups = seed, epochs, stop, groups
        self.score = math.nan

    def param_groups(self, model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return self._groups(model, lr=lr, weight_decay=weight_decay, optimizer="sgd")

    def __call__(self, score: float, epoch: int) -> None:
        self.score = score
        if epoch == self.stop:
            raise StopIteration


def run_one(base: Base, arm: Arm, scale: Scale, configuration: int, seed: int) -> Row:
    """Train one configuration in one way; validation and test accuracy, and processor seconds."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    params = configurations(scale.configurations)[configuration]
    data = part(base, arm.data)
    plan = plan_of(base, arm)
    groups = plain_groups if plan is None else proxy_groups(plan, arm.transfer, "redraw")
    report = Report(1000 * seed + configuration, arm.epochs or base.epochs, groups, arm.stop_after)
    params = {**params, "batch_size": min(params["batch_size"], len(data.train_labels) // 2)}

    def build() -> nn.Module:
        return network(arm.model or base.model, data)

    start = time.process_time()
    seed_all(report.seed)
    model = build() if plan is None else fresh_proxy(build, plan)
    try:
        score = ImageClassification(data, schedule=cosine)(model, params, report)  # type: ignore[arg-type]
    except StopIteration:
        score = report.score
    seconds = time.process_time() - start
    test = accuracy(model, data, "test") if arm.kind == "base" and math.isfinite(score) else math.nan
    values = {"val": _or_zero(score), "test": _or_zero(test), "cpu_seconds": round(seconds, 3)}
    return dict(zip(KEY, (base.model, arm.name, configuration, seed), strict=True)) | values


def _or_zero(value: float) -> float:
    """What diverges is worse than anything else."""
    return round(value, 5) if math.isfinite(value) else 0.0


def network(name: str, data: ImageData) -> nn.Module:
    """A network of the zoo, or one of its families that is small enough for one core, with fresh weights."""
    return (BASES.get(name) or models[name])(data.num_classes, data.channels)


@lru_cache(maxsize=8)
def part(base: Base, share: float) -> ImageData:
    """The dataset, with that share of its training images, the first of each class."""
    data = datasets[base.dataset].load(base.pixels, None, 0)
    chosen = torch.arange(min(base.images, len(data.train_labels)))
    if share < 1.0:
        labels = data.train_labels[chosen]
        of = [torch.nonzero(labels == k).flatten() for k in range(data.num_classes)]
        chosen = torch.cat([rows[: max(1, round(share * len(rows)))] for rows in of])
    return replace(
        data,
        train_images=data.train_images[chosen], train_labels=data.train_labels[chosen],
        val_images=data.val_images[:2000], val_labels=data.val_labels[:2000],
    )  # fmt: skip


@lru_cache(maxsize=64)
def _plan(base: Base, asked: tuple[tuple[str, Any], ...]) -> PruningPlan:
    data = part(base, 1.0)
    seed_all(0)
    full = network(base.model, data)
    images = data.normalize(data.train_images[:64])
    options = dict(asked)
    if isinstance(options.get("flops"), str):
        quarter = prune(full, images, scorer="uniform", ratio=0.25).cost
        options["flops"] = quarter.proxy.flops / quarter.base.flops
    batches = [
        (data.normalize(data.train_images[a : a + 64]), data.train_labels[a : a + 64]) for a in range(0, 640, 64)
    ]
    return prune(full, images, data=batches, **options).plan


def plan_of(base: Base, arm: Arm) -> PruningPlan | None:
    """What an arm cuts."""
    return None if arm.prune is None else _plan(base, tuple(sorted(arm.prune.items())))


def jobs(scale: Scale) -> Iterator[tuple[tuple[Any, ...], tuple[Base, Arm, Scale, int, int]]]:
    """Key and arguments of every training."""
    for base in scale.bases:
        for arm in arms(base, scale):
            for seed in (0, *TRUTH_SEEDS) if arm.kind == "base" else (0,):
                for configuration in range(scale.configurations):
                    yield (base.model, arm.name, configuration, seed), (base, arm, scale, configuration, seed)


# What came of it.


def summaries(rows: Sequence[Row], scale: Scale) -> dict[str, Any]:
    """By base: the ceiling, and every arm's cost, rank correlation and regret. Only of arms that are complete."""
    found = {}
    for base in scale.bases:
        own = [row for row in rows if row["base"] == base.model]
        of = {arm.name: _column(own, arm.name, 0, "val", scale) for arm in arms(base, scale)}
        truth_by_seed = [_column(own, "base", seed, "test", scale) for seed in TRUTH_SEEDS]
        chooser = of["base"]
        if chooser is None or any(column is None for column in truth_by_seed):
            continue
        truth = np.mean([column for column in truth_by_seed if column is not None], axis=0)
        seconds = {name: _seconds(own, name) for name in of}
        entries = {}
        for arm in arms(base, scale):
            scores = of[arm.name]
            if scores is None or arm.name == "base":
                continue
            entries[arm.name] = {
                "kind": arm.kind,
                "cost": seconds[arm.name] / seconds["base"],
                **compared(scores, truth, chooser),
            }
        found[base.model] = {
            "ceiling": compared(chooser, truth, chooser),
            "random_pick_regret_points": 100 * float(np.max(truth) - np.mean(truth)),
            "proxies": entries,
            "base_seconds": seconds["base"],
        }
    return found


def compared(scores: NDArray[np.float64], truth: NDArray[np.float64], chooser: NDArray[np.float64]) -> dict[str, Any]:
    """Rank correlation with the truth, with its 95 % bootstrap interval over configurations, and points of regret.

    Plain: the truth's best minus that of the first choice. Confirmed: the best of the first three by ``chooser``, the
    full network with a seed that has no part in the truth.
    """
    found = rank_correlation(scores[None], truth)
    half = truth >= np.median(truth)
    return {
        "spearman": found.mean,
        "spearman_interval": [found.low, found.high],
        "spearman_best_half": _none_for_nan(rank_correlations(scores[half], truth[half])),
        "regret_points": 100 * float(truth.max() - truth[ranking(scores)[0]]),
        "regret_points_confirmed": 100 * float(truth.max() - truth[confirmed(scores, chooser, TOP)]),
    }


def _none_for_nan(value: NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)


def _column(rows: Iterable[Row], arm: str, seed: int, what: str, scale: Scale) -> NDArray[np.float64] | None:
    values = {int(r["configuration"]): float(r[what]) for r in rows if r["arm"] == arm and int(r["seed"]) == seed}
    if len(values) < scale.configurations:
        return None
    return np.array([values[i] for i in range(scale.configurations)])


def _seconds(rows: Iterable[Row], arm: str) -> float:
    """Mean processor seconds of a configuration."""
    return statistics.fmean([float(r["cpu_seconds"]) for r in rows if r["arm"] == arm] or [math.nan])


HEADER: Final = (
    "base", "judged by", "cost", "spearman", "95 %", "best half", "regret, points", "after confirming three",
)  # fmt: skip


def report(found: Mapping[str, Any], *, markdown: bool) -> str:
    """The tables."""
    body = []
    for base, each in found.items():
        lines = [("the full network, another seed", {"cost": 1.0, **each["ceiling"]}), *each["proxies"].items()]
        for name, entry in lines:
            body.append([
                base, name, entry["cost"], entry["spearman"], _interval(entry["spearman_interval"]),
                entry["spearman_best_half"], entry["regret_points"], entry["regret_points_confirmed"],
            ])  # fmt: skip
        body.append([base, "a random pick", 0.0, None, "", None, each["random_pick_regret_points"], None])
    return table(HEADER, body, markdown=markdown)


def _interval(limits: Sequence[float | None]) -> str:
    low, high = limits
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not there yet, and print the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="cpu: an hour of a core")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a CSV line for each training; what is in it is kept")
    parser.add_argument(
        "--from", type=Path, nargs="+", dest="source", metavar="FILE", help="only the tables, from such files"
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="K/N",
        help="only every Nth training, from the Kth: 1/12, …",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on one thread (1)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary to this file")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    if options.source is None:
        sources = [options.rows] if options.rows is not None and options.rows.exists() else []
    else:
        sources = options.source
    rows = list({_key(row): row for path in sources for row in read(path)}.values())
    if options.source is None:
        rows += train(scale, {_key(row) for row in rows}, options)
    found = summaries(rows, scale)
    print(report(found, markdown=options.markdown))
    if options.json is not None:
        options.json.write_text(json.dumps(document(found, options), indent=1) + "\n")
    return 0


def document(found: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The summary with where it comes from; ``proxies`` are those of all bases, by base and name."""
    return {
        "benchmark": "transfer",
        "settings": {"scale": options.scale, "configurations": SCALES[options.scale].configurations},
        "seeds": [0, *TRUTH_SEEDS],
        "machine": {**machine(nn.Linear(1, 1)), "load": os.getloadavg()[0]},
        "versions": versions(),
        "ceiling": {base: each["ceiling"]["spearman"] for base, each in found.items()},
        "bases": found,
        "proxies": {
            f"{base}: {name}": {k: entry[k] for k in ("cost", "spearman", "regret_points", "regret_points_confirmed")}
            for base, each in found.items()
            for name, entry in each["proxies"].items()
        },
    }


def _shard(text: str) -> tuple[int, int]:
    """K and N of "K/N"."""
    place, _, shards = text.partition("/")
    if not (place.isdigit() and shards.isdigit() and 1 <= int(place) <= int(shards)):
        raise argparse.ArgumentTypeError(f"{text!r} must be K/N with K from 1 to N, such as 3/12")
    return int(place), int(shards)


def _key(row: Row) -> tuple[Any, ...]:
    return (row["base"], row["arm"], int(row["configuration"]), int(row["seed"]))


FIELDS: Final = (*KEY, "val", "test", "cpu_seconds")


def read(path: Path) -> list[Row]:
    """The trainings in a file that ``--rows`` has written."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(scale: Scale, done: set[tuple[Any, ...]], options: argparse.Namespace) -> list[Row]:
    """The trainings that are not done; each is written as it ends."""
    place, shards = options.shard
    waiting = [arguments for key, arguments in list(jobs(scale))[place - 1 :: shards] if key not in done]
    rows = []
    fresh = options.rows is not None and not options.rows.exists()
    file = options.rows.open("a", newline="", encoding="utf-8") if options.rows is not None else None
    writer = csv.DictWriter(file, FIELDS) if file is not None else None
    if writer is not None and fresh:
        writer.writeheader()
    try:
        for row in _results(waiting, options):
            rows.append(row)
            print(" ".join(str(row[name]) for name in (*KEY, "val", "cpu_seconds")), file=sys.stderr, flush=True)
            if writer is not None and file is not None:
                writer.writerow(row)
                file.flush()
    finally:
        if file is not None:
            file.close()
    return rows


def _results(waiting: Sequence[tuple[Base, Arm, Scale, int, int]], options: argparse.Namespace) -> Iterator[Row]:
    deadline = time.monotonic() + options.seconds
    if options.jobs == 1:
        for arguments in waiting:
            if time.monotonic() > deadline:
                return
            yield run_one(*arguments)
        return
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for ended in as_completed([pool.submit(run_one, *arguments) for arguments in waiting]):
                yield ended.result()
                if time.monotonic() > deadline:
                    return
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
