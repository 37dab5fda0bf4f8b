"""From a configuration to the whole job: load the data, build the network, and hand both to the tuner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from prunetune.backends import Categorical, SearchSpace
from prunetune.config import Config, search_space
from prunetune.data import ImageData, datasets
from prunetune.data._files import Say, silently
from prunetune.errors import InputError
from prunetune.events import Observer, silent
from prunetune.jobs.execution import Execution
from prunetune.jobs.image_classification import Hyperparameters, ImageClassification, check_batch_size
from prunetune.jobs.schedules import SCHEDULES
from prunetune.runfolder import RunFolder
from prunetune.settings import Pruning, Search
from prunetune.tuner import TuneResult, tune
from prunetune.zoo import models

if TYPE_CHECKING:
    from torch import nn

EXAMPLE_BATCH: Final = 128  # images that FLOPs are counted and a step is timed on
FREE: Final = {"data.download"}  # what may be different when a run goes on, since it changes no result


def launch(config: Config, *, observer: Observer = silent, say: Say = silently) -> TuneResult:
    """Do the whole job that ``config`` describes, or what is left of it, in its run folder.

    ``say`` gets a sentence for every file that is downloaded.

    Raises InputError before anything is trained if the data, the device, the batch sizes or the folder do not fit.
    """
    device = choose_device(config.run.device)
    space = search_space(config)
    data = load_data(config, say)
    _check_batch_sizes(config, space, data)
    data = data.to(device)
    defaults = Hyperparameters().updated(config.train.fixed())
    train = config.train
    execution = Execution(train.amp, train.channels_last, train.compile)
    job = ImageClassification(data, defaults, SCHEDULES[train.schedule], execution)
    builder = models[config.model.name]

    def model_fn() -> nn.Module:
        return builder(data.num_classes, data.channels).to(device)

    keep_config(config)
    return tune(
        model_fn,
        job,
        space,
        example_inputs=data.normalize(data.train_images[:EXAMPLE_BATCH]),
        epochs=config.search.epochs,
        run_dir=config.run.folder,
        pruning=Pruning(**config.pruning.model_dump(exclude_none=True)),
        search=Search(
            n_trials=config.search.n_trials,
            confirm=config.search.confirm,
            optimizer=config.search.optimizer,
            trial_pruner=config.search.trial_pruner,
        ),
        seed=config.search.seed,
        evaluate=job.evaluate,
        data=ScoringBatches(data, config.search.seed),
        observer=observer,
    )


@dataclass(frozen=True)
class ScoringBatches:
    """Batches of training images and their labels, drawn without replacement, the same for the same seed."""

    data: ImageData
    seed: int

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        images, labels = self.data.train_images, self.data.train_labels
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed)).to(images.device)
        for part in torch.split(order, EXAMPLE_BATCH):
            yield self.data.normalize(images[part]), labels[part]


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. Raises InputError if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    usable = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not usable[device.type]:
        raise InputError(f"run.device is {name!r}, but there is no such device here; take 'auto' or 'cpu'")
    return device


def keep_config(config: Config) -> None:
    """Write ``config`` into the run folder as ``config.json``, or check it against the one that is there.

    What the tuner knows of (search, pruning) it compares itself; here it is the job: model, data and training.
    Raises InputError that names the first key that differs.
    """
    now = config.model_dump(mode="json", exclude={"run"})
    with RunFolder(config.run.folder) as folder:
        path = folder.path / "config.json"
        stored = folder.read_json(path)
        if stored is None:
            folder.write_json(path, now)
            return
    before = _flat(stored)
    for key, value in _flat(now).items():
        if key.split(".")[0] in {"model", "data", "train"} and key not in FREE and before.get(key) != value:
            raise InputError(
                f"the run in {config.run.folder} was started with {key} = {before.get(key)!r}, now it is {value!r}; "
                "continue it with the same configuration, or choose another folder"
            )


def _flat(tables: dict[str, Any]) -> dict[str, Any]:
    return {f"{table}.{key}": value for table, keys in tables.items() for key, value in keys.items()}


def load_data(config: Config, say: Say = silently) -> ImageData:
    """The images that ``config`` names, on the CPU, with the augmentation that it asks for. Raises InputError."""
    dataset = datasets[config.data.name]
    root = None if config.data.root is None else Path(config.data.root)
    if config.data.download and dataset.fetch is not None:
        dataset.fetch(root, say)
    data = dataset.load(config.data.image_size, root, config.data.seed)
    return replace(data, augmentation=replace(data.augmentation, **config.train.augmentation()))


def _check_batch_sizes(config: Config, space: SearchSpace, data: ImageData) -> None:
    """Raise InputError unless every batch size that may be tried fits into the training set."""
    distribution = space.get("batch_size")
    if distribution is None:
        sizes = [("train.batch_size", Hyperparameters().updated(config.train.fixed()).batch_size)]
    else:
        ends = distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)
        sizes = [("search.space.batch_size", int(str(end))) for end in ends]
    for key, size in sizes:
        try:
            check_batch_size(size, data)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
