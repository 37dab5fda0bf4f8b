"""What of a training can be left out? Ways to make a trial cheap, and how well each ranks configurations.

    OMP_NUM_THREADS=1 python -m benchmarks.fidelity --json fidelity.json --markdown fidelity.md

Random configurations, each trained in full with two seeds, and in every cheap way: stopped early in its schedule
(truncated), with a schedule of so many epochs (re-annealed), on smaller images, on fewer images. A way is judged by its
rank correlation with the full training of the *other* seed, the ceiling by that of a full training. Then Hyperband's
first bracket is played with both forms of rungs at equal epochs, thousands of times, on what was trained.

The file is added to: what is in it is not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from benchmarks.common.curves import NAMES
from benchmarks.optimizer_training.runs import Recipe, train_together
from benchmarks.optimizer_training.runs import load as load_vectors
from prunetune.data import ImageData, datasets, split_stratified
from prunetune.data._reduced import subset_size
from prunetune.record.provenance import machine, versions
from prunetune.training import ImageClassification
from prunetune.training.schedules import cosine
from prunetune.zoo import models

FACTOR = 3
"""Hyperband's: one in so many goes on."""
RESAMPLES, BOOTSTRAP = 2000, 400
TRIALS = 50
"""Of a search, on average; fewer where there are not so many configurations to draw from."""

Curve: TypeAlias = list[float | None]
Scores: TypeAlias = Mapping[int, NDArray[np.float64]]
"""Scores of all configurations (N,) by the epochs after which they were taken."""


@dataclass(frozen=True)
class Scale:
    """How much is trained."""

    dataset: str
    image_size: int
    train: int
    validate: int
    configurations: int
    epochs: int


SCALES = {
    "resnet8": {
        "smoke": Scale("digits", 8, train=200, validate=64, configurations=4, epochs=3),
        "cpu": Scale("fashion-mnist", 14, train=1000, validate=2000, configurations=27, epochs=9),
        "full": Scale("fashion-mnist", 28, train=50_000, validate=10_000, configurations=81, epochs=27),
    },
    "perceptron": {
        "smoke": Scale("digits", 8, train=200, validate=64, configurations=9, epochs=3),
        "cpu": Scale("fashion-mnist", 14, train=2000, validate=4000, configurations=243, epochs=27),
        "full": Scale("fashion-mnist", 28, train=50_000, validate=10_000, configurations=729, epochs=81),
    },
}
"""Of a ResNet-8 by the built-in loop, cosine schedule; and of two hidden layers, many at once, step schedule."""


@dataclass(frozen=True)
class Way:
    """A way to train: shares of the full training's resolution and data, its epochs, and a seed."""

    name: str
    seed: int
    epochs: int
    resolution: float = 1.0
    data: float = 1.0


@dataclass(frozen=True)
class Told:
    """What the built-in loop asks of a report; keeps the curve."""

    epochs: int
    seed: int
    resolution: float
    data: float
    curve: Curve

    def __call__(self, score: float, epoch: int) -> None:
        self.curve.append(score if math.isfinite(score) else None)

    def param_groups(self, model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]


def ways(network: str, scale: Scale, seed: int = 0) -> list[Way]:
    """All that are compared, the full trainings first. Images of another size would take another perceptron."""
    one, other = 2 * seed, 2 * seed + 1
    epochs = scale.epochs
    cheap = [Way(f"{rung} of {epochs} epochs, re-annealed", one, rung) for rung in rungs(epochs)[:-1]]
    return [
        Way("full", one, epochs),
        Way("full, other seed", other, epochs),
        *cheap,
        *([Way("half the resolution", one, epochs, resolution=0.5)] if network == "resnet8" else []),
        Way("a third of the data", one, epochs, data=1 / FACTOR),
    ]


def rungs(epochs: int) -> list[int]:
    """1, 3, 9, … and the last epoch."""
    return [*(FACTOR**k for k in range(epochs) if FACTOR**k < epochs), epochs]


def configurations(count: int, seed: int) -> list[dict[str, Any]]:
    """Random ones, independent."""
    random = np.random.default_rng(seed)
    return [
        {
            "learning_rate": float(10 ** random.uniform(-3, 0)),
            "weight_decay": float(10 ** random.uniform(-5, -2)),
            "momentum": float(random.uniform(0.5, 0.99)),
            "batch_size": int(random.choice([32, 64])),
            "lr_decay": float(random.uniform(0.1, 1.0)),
        }
        for _ in range(count)
    ]


def load(scale: Scale) -> ImageData:
    """The first images of each part."""
    data = datasets[scale.dataset].load(scale.image_size, None, 0)
    return replace(
        data,
        train_images=data.train_images[: scale.train],
        train_labels=data.train_labels[: scale.train],
        val_images=data.val_images[: scale.validate],
        val_labels=data.val_labels[: scale.validate],
    )


def train(job: ImageClassification, params: dict[str, Any], way: Way) -> dict[str, Any]:
    """The curve of one training, None from where it diverged, and its seconds of the processor."""
    torch.manual_seed(way.seed)
    told = Told(way.epochs, way.seed, way.resolution, way.data, [])
    job.data_at(way.resolution, way.data)  # not counted: trials share it
    started = time.process_time()
    used = {name: value for name, value in params.items() if name != "lr_decay"}  # it has no part in a cosine
    job(models["resnet8"](job.data.num_classes, job.data.channels), used, told)  # type: ignore[arg-type]
    seconds = time.process_time() - started
    return {"curve": told.curve + [None] * (way.epochs - len(told.curve)), "seconds": seconds}


def train_perceptrons(scale: Scale, params: Sequence[dict[str, Any]], way: Way) -> list[dict[str, Any]]:
    """The curves of all configurations, those of one batch size being trained as one tensor."""
    recipe = Recipe(scale.dataset, scale.image_size, scale.train, scale.validate, hidden=(32, 32), seeds=1)
    (images, labels), validate = load_vectors(recipe)
    (chosen,) = split_stratified(labels, (subset_size(len(labels), way.data),), seed=0)
    found: list[dict[str, Any]] = [{}] * len(params)
    for size in sorted({each["batch_size"] for each in params}):
        numbers = [number for number, each in enumerate(params) if each["batch_size"] == size]
        points = torch.tensor([[params[number][name] for name in NAMES[:-1]] for number in numbers])
        started = time.process_time()
        train = images[chosen], labels[chosen]
        curves = train_together(points, size, train, validate, recipe, way.seed, way.epochs)
        seconds = (time.process_time() - started) / len(numbers)
        for number, curve in zip(numbers, curves.tolist(), strict=True):
            shown = [round(score, 4) if math.isfinite(score) else None for score in curve]
            found[number] = {"curve": shown, "seconds": round(seconds, 4)}
    return found


def measure(result: dict[str, Any], scale: Scale, file: Path | None) -> None:
    """Train what ``result`` has not yet, and keep it in ``file`` as it comes."""
    params, trainings = result["configurations"], result["trainings"]
    if result["network"] == "perceptron":
        for way in ways("perceptron", scale, result["seed"]):
            trainings[way.name] = trainings.get(way.name) or train_perceptrons(scale, params, way)
            _keep(result, file, way.name)
        return
    job = ImageClassification(load(scale), schedule=cosine)
    for number, each in enumerate(params):
        for way in ways("resnet8", scale, result["seed"]):
            trained = trainings.setdefault(way.name, [])
            if len(trained) == number:
                trained.append(train(job, each, way))
        _keep(result, file, f"{number + 1} of {len(params)}")


def _keep(result: Mapping[str, Any], file: Path | None, done: str) -> None:
    if file is not None:
        file.write_text(json.dumps(result))
    print(done, file=sys.stderr, flush=True)


def scores(result: Mapping[str, Any], way: str, epoch: int) -> NDArray[np.float64]:
    """Of all configurations after that epoch; one that diverged is worse than all."""
    found = [each["curve"][epoch - 1] for each in result["trainings"][way]]
    return np.array([-1.0 if score is None else score for score in found])


def rows(result: Mapping[str, Any], scale: Scale) -> list[dict[str, Any]]:
    """For every way: its cost, its rank correlation with the other seed's full training, its pick's regret."""
    truth = scores(result, "full, other seed", scale.epochs)
    full = sum(each["seconds"] for each in result["trainings"]["full"])
    found = []
    for way in ways(result["network"], scale):
        if way.name == "full, other seed":
            continue
        cost = sum(each["seconds"] for each in result["trainings"][way.name]) / full
        found.append(_row(way.name, cost, scores(result, way.name, way.epochs), truth))
    for rung in rungs(scale.epochs)[:-1]:
        name = f"{rung} of {scale.epochs} epochs, truncated"
        found.append(_row(name, rung / scale.epochs, scores(result, "full", rung), truth))
    return found


def _row(name: str, cost: float, guess: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    draws = [random.integers(len(truth), size=len(truth)) for _ in range(BOOTSTRAP)]
    spread = [_correlation(guess[draw], truth[draw]) for draw in draws]
    best = truth >= np.median(truth)
    return {
        "way": name,
        "cost": cost,
        "spearman": _correlation(guess, truth),
        "interval": [float(each) for each in np.quantile(spread, [0.025, 0.975])],
        "spearman_best_half": _correlation(guess[best], truth[best]),
        "regret_points": 100 * float(truth.max() - truth[guess.argmax()]),
        "regret_points_confirmed": 100 * float(truth.max() - truth[np.argsort(-guess, kind="stable")[:3]].max()),
    }


def _correlation(guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    constant = len(set(guess)) == 1 or len(set(truth)) == 1
    return 0.0 if constant else float(spearmanr(guess, truth).statistic)


def halving(at: Scores, order: NDArray[np.intp]) -> int:
    """The configuration that successive halving finds among those of ``order``, by their scores at each rung."""
    left = order
    for number, rung in enumerate(sorted(at)):
        left = left[np.argsort(-at[rung][left], kind="stable")]
        left = left[: _survivors(len(order), number + 1)] if rung != max(at) else left
    return int(left[0])


def _survivors(count: int, halvings: int) -> int:
    return max(1, count // FACTOR**halvings)


def epochs_of(count: int, epochs: int, *, anew: bool) -> int:
    """Epochs of successive halving among so many configurations, each rung a training of its own or the same one."""
    ends = rungs(epochs)
    begun = [0] * len(ends) if anew else [0, *ends[:-1]]
    return sum(
        (_survivors(count, number) if number else count) * (end - start)
        for number, (start, end) in enumerate(zip(begun, ends, strict=True))
    )


def play(result: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Mean regret of successive halving with both forms of rungs, at equal epochs, over random draws; paired."""
    ends, last = rungs(scale.epochs), scale.epochs
    truth = scores(result, "full, other seed", last)
    truncated = {rung: scores(result, "full", rung) for rung in ends}
    names = {rung: f"{rung} of {last} epochs, re-annealed" for rung in ends[:-1]}
    anew = {**{rung: scores(result, name, rung) for rung, name in names.items()}, last: truncated[last]}
    most = min(TRIALS, max(1, 3 * len(truth) // 4))
    budget = epochs_of(most, last, anew=False)
    fewer = max(count for count in range(1, most + 1) if epochs_of(count, last, anew=True) <= budget or count == 1)
    random = np.random.default_rng(0)
    regrets = []
    for _ in range(RESAMPLES):
        order = random.permutation(len(truth))
        picks = [halving(truncated, order[:most]), halving(anew, order[:fewer]), halving(anew, order[:most])]
        regrets.append([100 * float(truth.max() - truth[pick]) for pick in picks])
    table = np.array(regrets)
    return {
        "configurations": {"truncated": most, "reannealed": fewer},
        "epochs": {"truncated": budget, "reannealed": epochs_of(fewer, last, anew=True)},
        "regret_points": {"truncated": float(table[:, 0].mean()), "reannealed": float(table[:, 1].mean())},
        "regret_points_of_as_many_configurations": float(table[:, 2].mean()),
        "epochs_of_as_many_configurations": epochs_of(most, last, anew=True),
        "share_of_draws_won": {
            "truncated": float((table[:, 0] < table[:, 1]).mean()),
            "reannealed": float((table[:, 0] > table[:, 1]).mean()),
        },
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        "| way | cost | Spearman | 95 % | best half | regret, points | after confirming 3 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["ways"]:
        low, high = row["interval"]
        lines.append(
            f"| {row['way']} | {row['cost']:.2f} | {row['spearman']:.2f} | {low:.2f} to {high:.2f} | "
            f"{row['spearman_best_half']:.2f} | {row['regret_points']:.2f} | {row['regret_points_confirmed']:.2f} |"
        )
    played = result["halving"]
    lines += [
        "",
        "| successive halving | configurations | epochs | regret, points | draws won |",
        "|---|---|---|---|---|",
    ]
    for form in ("truncated", "reannealed"):
        lines.append(
            f"| {form} | {played['configurations'][form]} | {played['epochs'][form]} | "
            f"{played['regret_points'][form]:.2f} | {played['share_of_draws_won'][form]:.0%} |"
        )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--network", choices=SCALES, default="resnet8")
    parser.add_argument("--scale", choices=SCALES["resnet8"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    scale = SCALES[options.network][options.scale]
    asked = {
        "network": options.network,
        "scale": asdict(scale),
        "seed": options.seed,
        "configurations": configurations(scale.configurations, options.seed),
    }
    result: dict[str, Any] = {**asked, "versions": versions(), "machine": machine(models["resnet8"](10, 1))}
    result["trainings"] = {}
    if options.json is not None and options.json.exists():
        result = json.loads(options.json.read_text())
        if any(result[name] != value for name, value in asked.items()):
            parser.error(f"{options.json} is of another network, scale or seed; name another file")
    measure(result, scale, options.json)
    result["ways"], result["halving"] = rows(result, scale), play(result, scale)
    if options.json is not None:
        options.json.write_text(json.dumps(result))
    if options.markdown is not None:
        options.markdown.write_text(markdown(result))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
