"""What a configuration trains: its network, training and data, ready for ``tune``, ``check`` and ``compare``.

The built-in training is that of images, of labelled texts or of plain text, as ``[data]`` says (decision 44).
"""

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
from prunetune.cli.config import DIRECTIONS, search_space
from prunetune.cli.tables import IMAGES, Config
from prunetune.data import ImageData, datasets, texts
from prunetune.data._files import Say, silently
from prunetune.data._reduced import subset_size
from prunetune.data._texts import TextParts
from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder
from prunetune.pruning.checks import check_model_fn, check_train, takes_hyperparameters
from prunetune.record.folder import whole_path
from prunetune.training.devices import choose_device
from prunetune.training.execution import Execution
from prunetune.training.image_classification import Hyperparameters, ImageClassification, check_batch_size
from prunetune.training.schedules import SCHEDULES
from prunetune.training.text import TextHyperparameters, TextTraining, Tokens
from prunetune.training.text import check_batch_size as check_text_batch
from prunetune.training.tokens import classified, load_tokenizer, modelled, padding_of
from prunetune.tuning.architecture import network_of
from prunetune.tuning.types import EvaluateFunction, ModelFunction, TrainFunction
from prunetune.zoo import builder, models, of_transformers
from prunetune.zoo.of_transformers import check_fits, config_of

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs

EXAMPLE_BATCH: Final = 128  # images that FLOPs are counted and a step is timed on
TEXT_BATCH: Final = 16  # likewise texts
TEXT_LENGTH: Final = 128  # tokens of a text, where data.length says nothing else


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
    if config.data is None:
        return _own(config)
    return _images(config, say) if config.job == IMAGES else _texts(config)


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
        config.train.steps_per_epoch,
    )


def _images(config: Config, say: Say) -> Job:
    """The built-in training of image classifiers, on the data of ``config``."""
    device = choose_device(config.run.device)
    data = load_data(config, say)
    sizes = _batch_sizes(config, Hyperparameters())
    _check_batch_sizes(config, sizes, len(data.train_labels), partial(check_batch_size, data=data))
    data = data.to(device)
    train, seed = config.train, config.search.seed
    execution = Execution(train.amp, train.channels_last, train.compile)
    job = ImageClassification(
        data, Hyperparameters().updated(train.fixed()), SCHEDULES[train.schedule], execution, seed
    )

    def built(name: str) -> ModelFunction:
        zoo = None if ":" in name else partial(builder(name), data.num_classes, data.channels)
        return _builder(name, device, search_space(config), zoo)

    model_fn = built(config.model.name)
    inputs = data.normalize(data.train_images[:EXAMPLE_BATCH])
    if config.model.name not in models:
        _check_classes(config.model.name, model_fn, inputs[:2], data.num_classes)
    steps = _steps(len(data.train_labels), sizes)
    return Job(model_fn, job, inputs, "maximize", job.evaluate, ScoringBatches(data, seed), built, steps)


def _texts(config: Config) -> Job:
    """The built-in training of transformers, on the texts of ``config``."""
    asked, job = config.data, config.job
    assert asked is not None
    assert asked.root is not None  # the configuration has been checked
    assert job is not None
    device = choose_device(config.run.device)
    length = asked.length or TEXT_LENGTH
    tokenizer = load_tokenizer(asked.tokenizer or config.model.name)
    loaded, classes = texts[asked.name].load(whole_path("data.root", asked.root), asked.seed)
    parts = classified(loaded, tokenizer, length) if classes else modelled(loaded, tokenizer, length)
    settings: dict[str, Any] = {"num_labels": len(classes), "pad_token_id": padding_of(tokenizer)} if classes else {}
    names = [config.model.name, *config.compare.smaller]
    for name in (each for each in names if ":" not in each):
        check_fits(config_of(name), name, highest=_highest(parts), length=parts.train.ids.shape[1])
    sizes = _batch_sizes(config, TextHyperparameters())
    _check_batch_sizes(config, sizes, len(parts.train), partial(check_text_batch, texts=len(parts.train)), what="texts")
    on_device = TextParts(**{part: each.to(device) for part, each in vars(parts).items()})
    train = TextTraining(
        on_device,
        TextHyperparameters().updated(config.train.fixed()),
        Execution(config.train.amp),
        config.search.seed,
    )
    space = search_space(config)

    def built(name: str) -> ModelFunction:
        return _builder(name, device, space, partial(of_transformers.build, job, name, use_cache=False, **settings))

    inputs = on_device.train[slice(0, TEXT_BATCH)].inputs()
    steps = _steps(len(parts.train), sizes)
    model_fn = built(config.model.name)
    return Job(model_fn, train, inputs, DIRECTIONS[job], train.evaluate, None, built, steps)


def _highest(parts: TextParts[Tokens]) -> int:
    """The highest number of a token."""
    return max(int(each.ids.max()) for each in vars(parts).values())


def _steps(examples: int, sizes: list[tuple[str, int]]) -> int:
    """Optimizer steps of an epoch with the batch size in the middle of these, on a logarithmic scale."""
    batches = [size for _, size in sizes]
    return math.ceil(examples / math.sqrt(min(batches) * max(batches)))


def _builder(
    name: str, device: torch.device, space: SearchSpace, built_in: Callable[[], nn.Module] | None = None
) -> ModelFunction:
    """What builds the network ``name`` on the device: somebody's own code, or what is ``built_in``."""
    if ":" in name:
        given = own_code.imported(name, "model.name")
        check_model_fn(given)
    else:
        assert built_in is not None
        given = built_in
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


def _batch_sizes(config: Config, defaults: Hyperparameters | TextHyperparameters) -> list[tuple[str, int]]:
    """The extreme batch sizes that may be tried, with the keys that say so."""
    distribution = search_space(config).get("batch_size")
    if distribution is None:
        return [("train.batch_size", defaults.updated(config.train.fixed()).batch_size)]
    ends = distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)
    return [("search.space.batch_size", int(str(end))) for end in ends]


def _check_batch_sizes(
    config: Config,
    sizes: list[tuple[str, int]],
    examples: int,
    check: Callable[[int], None],
    what: str = "images",
) -> None:
    """Raise InputError unless every batch size that may be tried fits into the least of the training set on a rung."""
    ladder = config.ladder.asked
    share = min(rung.data for rung in ladder.rungs) if isinstance(ladder, Ladder) else 1.0
    for key, size in sizes:
        try:
            check(size)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        if size > (kept := subset_size(examples, share)):
            raise InputError(
                f"{key}: batch_size {size} is impossible on a rung with {share:.3g} of the {examples} "
                f"training {what}, {kept}; raise its data, or lower the batch size"
            )
