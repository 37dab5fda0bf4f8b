"""What a configuration trains: its network, training and data, ready for ``tune``, ``check`` and ``compare``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.utils import _pytree as pytree

from prunetune._utils.checks import Direction
from prunetune.backends import Categorical, SearchSpace
from prunetune.cli import own_code
from prunetune.cli.config import search_space
from prunetune.cli.tables import Config
from prunetune.data import ImageData, datasets
from prunetune.data._files import Say, silently
from prunetune.data._reduced import subset_size
from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder
from prunetune.pruning.checks import check_model_fn, check_train, takes_hyperparameters
from prunetune.record.folder import whole_path
from prunetune.training.devices import choose_device
from prunetune.training.execution import Execution
from prunetune.training.image_classification import Hyperparameters, ImageClassification, check_batch_size
from prunetune.training.schedules import SCHEDULES
from prunetune.tuning.architecture import network_of
from prunetune.tuning.types import EvaluateFunction, ModelFunction, TrainFunction
from prunetune.zoo import models

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs

EXAMPLE_BATCH: Final = 128  # images that FLOPs are counted and a step is timed on


@dataclass(frozen=True)
class Job:
    """What comes of ``[model]``, ``[data]`` and ``[train]``, on the device of ``[run]``."""

    model_fn: ModelFunction
    train: TrainFunction
    example_inputs: ExampleInputs
    direction: Direction
    evaluate: EvaluateFunction | None
    batches: ScoringBatches | None
    """For scorers that need data; None where the train function brings its own."""
    builder: Callable[[str], ModelFunction]
    """What builds another network, by its name, for the same data."""
    steps_per_epoch: int | None = None


def prepare(config: Config, say: Say = silently) -> Job:
    """The job that ``config`` describes. Raises InputError if code, data, device or batch sizes do not fit."""
    return _own(config) if config.data is None else _built_in(config, say)


def _own(config: Config) -> Job:
    """A training of somebody's own, whose network and inputs are put on the device."""
    name, inputs, evaluate = config.train.function, config.model.inputs, config.train.evaluate
    assert name is not None
    assert inputs is not None
    assert config.search.direction is not None
    device = choose_device(config.run.device)
    train = own_code.imported(name, "train.function", "my_project:train")
    check_train(train, name)
    move = partial(_moved, device=device)
    return Job(
        _builder(config.model.name, device, search_space(config)),
        train,
        pytree.tree_map(move, own_code.batch(inputs)),
        config.search.direction,
        None if evaluate is None else own_code.imported(evaluate, "train.evaluate", "my_project:evaluate"),
        None,
        partial(_builder, device=device, space=search_space(config)),
    )


def _built_in(config: Config, say: Say) -> Job:
    """The built-in training of image classifiers, on the data of ``config``."""
    device = choose_device(config.run.device)
    data = load_data(config, say)
    _check_batch_sizes(config, search_space(config), data)
    data = data.to(device)
    train, seed = config.train, config.search.seed
    execution = Execution(train.amp, train.channels_last, train.compile)
    job = ImageClassification(
        data, Hyperparameters().updated(train.fixed()), SCHEDULES[train.schedule], execution, seed
    )
    build = partial(_builder, device=device, space=search_space(config), data=data)
    model_fn = build(config.model.name)
    inputs = data.normalize(data.train_images[:EXAMPLE_BATCH])
    if config.model.is_own:
        _check_classes(config.model.name, model_fn, inputs[:2], data.num_classes)
    steps = math.ceil(len(data.train_labels) / _middle_batch(config))
    return Job(model_fn, job, inputs, "maximize", job.evaluate, ScoringBatches(data, seed), build, steps)


def _middle_batch(config: Config) -> float:
    """The batch size in the middle of those that are searched, on a logarithmic scale."""
    sizes = [size for _, size in _batch_sizes(config, search_space(config))]
    return math.sqrt(min(sizes) * max(sizes))


def _builder(name: str, device: torch.device, space: SearchSpace, data: ImageData | None = None) -> ModelFunction:
    """What builds the network ``name`` on the device: somebody's own code, or the zoo's for that data."""
    if ":" in name:
        given = own_code.imported(name, "model.name")
        check_model_fn(given)
    else:
        assert data is not None
        given = partial(models[name], data.num_classes, data.channels)
    if takes_hyperparameters(given):
        return network_of(lambda params: _moved(given(params), device), space)

    def model_fn() -> nn.Module:
        model: nn.Module = _moved(given(), device)  # or what somebody took for one, of which tune complains
        return model

    return model_fn


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor | nn.Module) else value


def _check_classes(name: str, model_fn: ModelFunction, images: torch.Tensor, classes: int) -> None:
    """Raise InputError unless the network has an output for each class of the data."""
    model = model_fn()
    if not isinstance(model, nn.Module):
        return  # whoever builds it for the search says so
    try:
        with torch.no_grad():
            found = model.eval()(images)
    except Exception as error:
        raise InputError(
            f"{name} does not run on images of the shape {tuple(images.shape)} ({type(error).__name__}: {error}); "
            "build it for these, or set data.image_size"
        ) from error
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != (len(images), classes):
        raise InputError(
            f"{name} gives {shape} for {len(images)} images, but the built-in training wants {classes} numbers for "
            "each, one for each class of the data"
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


def load_data(config: Config, say: Say = silently) -> ImageData:
    """The images that ``config`` names, on the CPU, with the augmentation that it asks for. Raises InputError."""
    asked = config.data
    assert asked is not None
    dataset = datasets[asked.name]
    root = None if asked.root is None else whole_path("data.root", asked.root)
    if asked.download and dataset.fetch is not None:
        dataset.fetch(root, say)
    data = dataset.load(asked.image_size, root, asked.seed)
    return replace(data, augmentation=replace(data.augmentation, **config.train.augmentation()))


def _batch_sizes(config: Config, space: SearchSpace) -> list[tuple[str, int]]:
    """The extreme batch sizes that may be tried, with the keys that say so."""
    distribution = space.get("batch_size")
    if distribution is None:
        return [("train.batch_size", Hyperparameters().updated(config.train.fixed()).batch_size)]
    ends = distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)
    return [("search.space.batch_size", int(str(end))) for end in ends]


def _check_batch_sizes(config: Config, space: SearchSpace, data: ImageData) -> None:
    """Raise InputError unless every batch size that may be tried fits into the least of the training set on a rung."""
    ladder = config.ladder.asked
    share = min(rung.data for rung in ladder.rungs) if isinstance(ladder, Ladder) else 1.0
    for key, size in _batch_sizes(config, space):
        try:
            check_batch_size(size, data)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        if size > (kept := subset_size(len(data.train_labels), share)):
            raise InputError(
                f"{key}: batch_size {size} is impossible on a rung with {share:.3g} of the {len(data.train_labels)} "
                f"training images, {kept}; raise its data, or lower the batch size"
            )
