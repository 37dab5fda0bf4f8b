"""What the paper's tables are made of: searches, trainings and loss curves, each kept in a folder and done once.

Both routes of the paper are the same call: "typical HPO" searches on a proxy from which nothing was cut.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import prunetune
from benchmarks.common.images import network as network_of
from benchmarks.common.images import part
from benchmarks.common.reports import PlainReport
from benchmarks.paper.cases import Params, Preset, Record
from prunetune import Pruning, Search, prune
from prunetune._utils.caller import seed_all
from prunetune.cli.job import EXAMPLE_BATCH, ScoringBatches
from prunetune.data import ImageData, datasets
from prunetune.engine import fresh_proxy
from prunetune.errors import InputError
from prunetune.plugins import make_scorer, scorers
from prunetune.plugins.base import Context, Scorer
from prunetune.plugins.slimming import SlimmingPenalty
from prunetune.training import ImageClassification
from prunetune.training.execution import AS_MEASURED, deterministic
from prunetune.training.image_classification import FUSED, Hyperparameters, Training
from prunetune.training.schedules import step

TYPICAL: Final = "typical"
OURS: Final = "synflow"
TRAINED: Final = ("merging", "slimming")
"""Methods that score a network after training; its proxy has fresh weights, as the paper says."""


@dataclass(frozen=True)
class Bench:
    """A preset, where its results are kept, and the device."""

    preset: Preset
    folder: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise InputError if the folder holds results of another preset."""
        path, now = self.folder / "preset.json", {**self.preset.record(), "device": self.device}
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")) != now:
                raise InputError(f"{self.folder} holds results of another setting; choose another folder")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, now)

    def has(self, network: str, dataset: str) -> bool:
        """Whether the preset has something for both of these names of the paper."""
        return network in self.preset.networks and dataset in self.preset.datasets

    def data(self, dataset: str) -> ImageData:
        """The images that stand for a dataset of the paper, on the device."""
        return _load(self.preset.datasets[dataset], self.preset.train, self.preset.val, self.device)

    def build(self, network: str, data: ImageData) -> nn.Module:
        """The network that stands for one of the paper, with fresh weights, on the device."""
        return network_of(self.preset.networks[network], data).to(data.device)

    def search(
        self, network: str, dataset: str, route: str, seed: int, *, optimizer: str = "tpe", extra: bool = False
    ) -> Record:
        """The record of a search by a route, "typical" or a scorer's name, and of the base trained with its best.

        On the proxy hyperparameters are what they are on the base, and the best is not compared with others: the
        paper's plain transfer.
        """
        data = self.data(dataset)
        job = ImageClassification(data)
        trials = self.preset.extra_trials if extra else self.preset.trials
        parts = (dataset, network, route, optimizer, *(["extra"] if extra else []), str(seed))
        result = prunetune.tune(
            partial(self.build, network, data),
            job,
            self.preset.space(extra=extra),
            example_inputs=self._examples(data),
            epochs=self.preset.epochs,
            run_dir=self.folder / _file_name(*parts),
            pruning=self._pruning(network, dataset, route, seed),
            search=Search(direction="maximize", n_trials=trials, optimizer=optimizer, trial_pruner="hyperband"),
            ladder="paper",
            seed=seed,
            evaluate=job.evaluate,
            data=ScoringBatches(data, seed),
        )
        return result.record

    def trained(self, network: str, dataset: str, source: str, params: Params, seed: int) -> float:
        """Test accuracy of a network trained with hyperparameters that were found on ``source``."""
        data = self.data(dataset)

        def train() -> Record:
            seed_all(seed)
            model = self.build(network, data)
            job = ImageClassification(data)
            job(model, params, PlainReport(seed, self.preset.epochs))  # type: ignore[arg-type]
            return {"params": params, **job.evaluate(model)}

        kept = self._once(_file_name("trained", dataset, network, "from", source, str(seed)), train)
        if kept["params"] != params:
            raise InputError(f"{self.folder} holds a training with other hyperparameters; choose another folder")
        return float(kept["accuracy"])

    def losses(self, network: str, dataset: str, *, on_proxy: bool, seed: int) -> list[float]:
        """Mean training loss of each epoch with the paper's recipe, of the base or of its proxy."""
        data = self.data(dataset)

        def train() -> Record:
            seed_all(seed)
            model = self.build(network, data)
            if on_proxy:
                plan = prune(model, self._examples(data), scorer=OURS, percentile=85, floor=0.15, seed=seed).plan
                model = fresh_proxy(partial(self.build, network, data), plan)
            return {"losses": train_plainly(model, data, self.preset.epochs, seed)}

        name = _file_name("losses", dataset, network, "proxy" if on_proxy else "base", str(seed))
        return list(self._once(name, train)["losses"])

    def _pruning(self, network: str, dataset: str, route: str, seed: int) -> Pruning:
        if route == TYPICAL:
            return Pruning(scorer="uniform", ratio=1.0, transfer="identity")
        scorer = route
        if route in TRAINED:
            scorer = _file_name(route, "after-training", *self.preset.networks[network].split(), dataset, str(seed))
            if scorer not in scorers:
                train = partial(self._pretrain, data=self.data(dataset), penalty=route == "slimming", seed=seed)
                scorers.register(scorer, partial(AfterTraining, make_scorer(route), train))
        return Pruning(scorer=scorer, percentile=85, floor=0.15, transfer="identity")

    def _pretrain(self, model: nn.Module, *, data: ImageData, penalty: bool, seed: int) -> None:
        train_plainly(model, data, self.preset.epochs, seed, penalty=penalty)

    def _examples(self, data: ImageData) -> torch.Tensor:
        return data.normalize(data.train_images[:EXAMPLE_BATCH])

    def _once(self, name: str, make: Callable[[], Record]) -> Record:
        """What ``make`` returned the first time that it was asked for under this name."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            _write(path, make())
        kept: Record = json.loads(path.read_text(encoding="utf-8"))
        return kept


class AfterTraining(Scorer):
    """What another scorer says of the network when it is trained; the network that is cut stays as it is."""

    def __init__(self, inner: Scorer, train: Callable[[nn.Module], None]) -> None:
        self.inner, self.train = inner, train

    def channel_scores(self, context: Context) -> Mapping[Any, torch.Tensor]:
        self.train(context.model)
        self.inner.check(context.model, context.data)
        context.model.eval()
        return self.inner.channel_scores(context)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        self.train(context.model)
        self.inner.check(context.model, context.data)
        context.model.eval()
        return self.inner.unit_scores(context)


def train_plainly(model: nn.Module, data: ImageData, epochs: int, seed: int, *, penalty: bool = False) -> list[float]:
    """Train with the paper's recipe, momentum 0.9 and weight decay 5e-4; returns the mean loss of each epoch.

    With ``penalty`` as network slimming wants it.
    """
    settings = Hyperparameters(batch_size=min(128, len(data.train_labels) // 2))
    steps = len(data.train_labels) // settings.batch_size
    with AS_MEASURED.prepared(model, data.device) as forward, deterministic(data.device, seed) as generator:
        sgd = torch.optim.SGD(
            model.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay,
            fused=data.device.type in FUSED,
        )  # fmt: skip
        for group in sgd.param_groups:
            group["initial_lr"] = group["lr"]
        if penalty:
            sgd.register_step_pre_hook(SlimmingPenalty(model))
        training = Training(data, forward, sgd, settings, step, generator)
        losses = []
        for epoch in range(epochs):
            model.train()
            losses.append(training.epoch((epoch, epochs)) / steps)
    return losses


@lru_cache(maxsize=4)
def _load(source: tuple[str, int | None], train: int | None, val: int | None, device: str) -> ImageData:
    name, pixels = source
    data = datasets[name].load(pixels, None, 0)
    for kind, count in (("train", train), ("val", val)):
        if count is not None and count < len(getattr(data, f"{kind}_labels")):
            data = part(data, kind, count, 0)  # type: ignore[arg-type]
    return replace(data).to(device)


def _file_name(*parts: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts))


def _write(path: Path, value: Record) -> None:
    """As a whole: after a kill there is no half of it."""
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(_plain(value), indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    """NaN and infinity, which are not JSON, as None."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
