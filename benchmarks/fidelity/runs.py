"""The trainings: of a ResNet-8 one after another, of perceptrons many at once."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from benchmarks.common.curves import NAMES
from benchmarks.common.images import first
from benchmarks.common.reports import PlainReport
from benchmarks.fidelity.cases import Scale, Way, ways
from benchmarks.optimizer_training.runs import Recipe, train_together
from benchmarks.optimizer_training.runs import load as load_vectors
from prunetune.data import datasets, split_stratified
from prunetune.data._reduced import subset_size
from prunetune.training import ImageClassification
from prunetune.training.schedules import cosine
from prunetune.zoo import models

Curve: TypeAlias = list[float | None]


def train(job: ImageClassification, params: dict[str, Any], way: Way) -> dict[str, Any]:
    """The curve of one training, None from where it diverged, and its seconds of the processor."""
    torch.manual_seed(way.seed)
    told = PlainReport(way.seed, way.epochs, resolution=way.resolution, data=way.data)
    job.data_at(way.resolution, way.data)  # not counted: trials share it
    started = time.process_time()
    used = {name: value for name, value in params.items() if name != "lr_decay"}  # it has no part in a cosine
    job(models["resnet8"](job.data.num_classes, job.data.channels), used, told)  # type: ignore[arg-type]
    seconds = time.process_time() - started
    curve: Curve = [score if math.isfinite(score) else None for score in told.scores]
    return {"curve": curve + [None] * (way.epochs - len(curve)), "seconds": seconds}


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
    data = first(datasets[scale.dataset].load(scale.image_size, None, 0), train=scale.train, val=scale.validate)
    job = ImageClassification(data, schedule=cosine)
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
