"""The configuration of ``prunetune run``: a TOML file, checked as a whole before anything runs.

Whatever is wrong in it becomes one sentence that names the key, what was given and what is allowed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from prunetune._utils.checks import Direction
from prunetune.backends import Categorical, Float, Int, SearchSpace, optimizers, spaces, trial_pruners
from prunetune.backends.space import check_points
from prunetune.cli.config_errors import allowed, first_sentence
from prunetune.cli.tables import HYPERPARAMETERS, IMAGES, Config, Data, Dimension, Train
from prunetune.data import datasets, texts
from prunetune.errors import InputError, unknown_name
from prunetune.zoo import models
from prunetune.zoo.of_timm import PREFIX
from prunetune.zoo.of_transformers import check_source

if TYPE_CHECKING:
    from prunetune.backends import Distribution

OWN_TRAIN: Final = {"function", "evaluate", "steps_per_epoch"}
"""Keys of ``[train]`` for a train function of one's own; the others are the built-in training's."""
NOT_OF_TEXTS: Final = (
    "train.schedule", "train.momentum", "train.lr_decay", "train.flip", "train.rotation", "train.padding",
    "train.channels_last", "train.compile", "data.image_size", "data.download",
)  # fmt: skip
NOT_OF_IMAGES: Final = ("train.warmup", "data.length", "data.tokenizer")
DIRECTIONS: Final[Mapping[str, Direction]] = {
    IMAGES: "maximize",
    "text-classification": "maximize",
    "causal-lm": "minimize",
}
"""By job, what is to become of its score: an accuracy, or a loss."""


def read_config(path: Path) -> Config:
    """The configuration in a TOML file. Raises InputError with one sentence that begins with the file's name."""
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no configuration file at {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the configuration file {str(path)!r}: {error}") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{path} is no configuration: values are nested more deeply than any key allows") from None
    try:
        config = parse_config(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    config._source = path
    return config


def configured(path: Path, *, budget: str | None = None, download: bool = False, energy: bool = False) -> Config:
    """The configuration in a file, with what the command line says. Raises InputError; loads no torch."""
    asked = read_config(path)
    asked = asked if budget is None else with_budget(asked, budget)
    asked = with_download(asked) if download else asked
    return with_energy(asked) if energy else asked


def with_download(config: Config) -> Config:
    """The same configuration with ``data.download = true``. Raises InputError where that cannot be."""
    if config.data is None:
        raise InputError("there is nothing to download: the train function brings its own data; leave --download out")
    asked = config.model_copy(update={"data": config.data.model_copy(update={"download": True})})
    _check_data(asked)
    return asked


def with_budget(config: Config, budget: str) -> Config:
    """The same configuration with that ``ladder.budget``. Raises InputError for what is none or fits no ladder."""
    return config.model_copy(update={"ladder": replace(config.ladder, budget=budget)})


def with_energy(config: Config) -> Config:
    """The same configuration with ``run.energy = true``."""
    return config.model_copy(update={"run": config.run.model_copy(update={"energy": True})})


def parse_config(content: Mapping[str, Any]) -> Config:
    """The configuration in nested tables. Raises InputError with one sentence for the first thing that is wrong."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise InputError(first_sentence(error, Config)) from None
    _check_data(config)  # what the model and the other keys may be depends on it
    _check_code(config)
    _check_names(config)
    _check_space(config)
    _check_comparison(config)
    return config


def search_space(config: Config) -> SearchSpace:
    """What a configuration searches: a space by its name, or the ranges and choices that it lists."""
    if isinstance(config.search.space, str):
        return spaces[config.search.space]
    own = config.train.function is not None
    return SearchSpace({name: _distribution(name, each, own=own) for name, each in config.search.space.items()})


def _check_code(config: Config) -> None:
    """Raise InputError where the code that somebody brings and the tables do not go together.

    Either the built-in training trains on ``[data]``, or a function of one's own, which brings its data.
    """
    model, train, search = config.model, config.train, config.search
    if train.function is None:
        _check_built_in(config)
        return
    if not model.is_own:
        raise InputError(
            f"train.function is {train.function!r}, but {model.name} takes its classes from [data]; give model.name "
            "as module:function, too"
        )
    if model.inputs is None:
        raise InputError(
            'model.inputs is missing: give one batch as the network takes it, such as ["64,1,28,28"], or the '
            "module:function that gives it"
        )
    if config.data is not None:
        raise InputError("[data] is for the built-in training, but train.function brings its own data; drop one")
    if unread := sorted(train.model_fields_set - OWN_TRAIN):
        raise InputError(
            f"train.{unread[0]} is for the built-in training, and nothing hands it to train.function; drop it"
        )
    if search.direction is None:
        raise InputError(
            f"search.direction is missing: only you know whether {train.function} returns what is to 'maximize', an "
            "accuracy say, or to 'minimize', a loss say"
        )


def _check_built_in(config: Config) -> None:
    """Raise InputError where the built-in training lacks something, or has what only a function of one's own reads."""
    if config.data is None:
        raise InputError("data is missing: the table [data] must be given, or train.function")
    for key, given in (
        ("model.inputs", config.model.inputs),
        ("train.evaluate", config.train.evaluate),
        ("train.steps_per_epoch", config.train.steps_per_epoch),
    ):
        if given is not None:
            raise InputError(f"{key} goes with train.function, which is missing; give that, or drop {key}")
    assert config.job is not None
    direction = DIRECTIONS[config.job]
    if config.search.direction not in (None, direction):
        score = "an accuracy" if direction == "maximize" else "a loss"
        raise InputError(
            f"search.direction is {config.search.direction!r}, but the built-in training returns {score}; drop "
            "search.direction"
        )
    _check_keys(config)


def _check_keys(config: Config) -> None:
    """Raise InputError for a key that has no part in this job of the built-in training."""
    images = config.job == IMAGES
    for key in NOT_OF_IMAGES if images else NOT_OF_TEXTS:
        table, _, name = key.partition(".")
        section = getattr(config, table)
        if getattr(section, name) != type(section).model_fields[name].default:
            other = "texts" if images else "images"
            raise InputError(f"{key} has a part in training on {other} only, and this is {config.job}; drop it")
    if not images and any(rung.resolution < 1 for rung in config.ladder.rung):
        raise InputError("ladder.rung.resolution is that of images, and texts have none; drop it")


def _check_names(config: Config) -> None:
    """Raise InputError for a name that cannot be looked up."""
    named: list[tuple[str, str, Callable[[str], None]]] = [
        ("search.optimizer", str(config.search.optimizer), optimizers.check),
        ("search.trial_pruner", str(config.search.trial_pruner), trial_pruners.check),
    ]
    named.insert(0, ("model.name", config.model.name, partial(_check_model, job=config.job)))
    if isinstance(config.search.space, str):
        named.append(("search.space", config.search.space, spaces.check))
    for key, given, check in named:
        try:
            check(given)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None


def _check_model(name: str, job: str | None) -> None:
    """Raise InputError for a model that there cannot be; timm is asked when one of its models is built."""
    if ":" in name:
        return
    if job not in (None, IMAGES):
        check_source(name)
    elif not name.startswith(PREFIX):
        models.check(name)


def _check_data(config: Config) -> None:
    """Raise InputError for a dataset that there is not, or that has no folder or no download."""
    data = config.data
    if data is None:
        return
    if data.name in texts:
        _check_texts(data, config.model.is_own)
        return
    if data.name not in datasets:
        raise InputError(f"data.name: {unknown_name('dataset', data.name, [*datasets, *texts])}")
    if data.root is None and not data.download:
        return
    dataset = datasets[data.name]
    if data.root is not None and not dataset.reads_files:
        raise InputError(f"data.root is {data.root!r}, but {data.name} is not read from a folder; drop it")
    if data.download and dataset.fetch is None:
        fetched = ", ".join(name for name in datasets if datasets[name].fetch is not None)
        raise InputError(f"data.download is true, but {data.name} cannot be downloaded (that can {fetched}); drop it")


def _check_texts(data: Data, is_own: bool) -> None:
    """Raise InputError where it cannot be known which texts, or what makes numbers of them."""
    if data.root is None:
        raise InputError(f"data.root is missing: {texts[data.name].summary}")
    if is_own and data.tokenizer is None:
        raise InputError(
            "data.tokenizer is missing: a model of your own brings none; give a folder that save_pretrained of a "
            "tokenizer has written"
        )


def _check_space(config: Config) -> None:
    """Raise InputError where the space and the fixed values contradict each other or the job's possible values."""
    own = config.train.function is not None
    if not isinstance(config.search.space, str):
        for name, dimension in config.search.space.items():
            key = f"search.space.{name}"
            if not own:
                _check_hyperparameter(key, name, dimension, HYPERPARAMETERS[config.job or IMAGES])
            try:
                _distribution(name, dimension, own=own)
            except InputError as error:
                raise InputError(f"{key}: {error}") from None
    check_points("search.first", config.search.first, search_space(config))
    if own:
        return
    searched, fixed = set(search_space(config)), set(config.train.fixed())
    if config.job != IMAGES and config.search.space in ("paper", "paper-extra"):
        raise InputError(
            f"search.space is {config.search.space!r}, whose rates are for SGD on images; list what is searched, for "
            "example [search.space.learning_rate]"
        )
    if both := searched & fixed:
        raise InputError(f"train.{min(both)} fixes a hyperparameter that search.space searches; drop one of them")
    if config.train.schedule != "step" and "lr_decay" in searched | fixed:
        raise InputError(
            f"train.schedule is {config.train.schedule!r}, in which lr_decay has no part; drop lr_decay or take 'step'"
        )


def _check_comparison(config: Config) -> None:
    """Raise InputError where [compare] names a model that there is not, or that lacks its classes."""
    for name in config.compare.smaller:
        try:
            _check_model(name, config.job)
            if ":" not in name and config.data is None:
                raise InputError(f"{name} takes its classes from [data]; give module:function")
        except InputError as error:
            raise InputError(f"compare.smaller: {error}") from None


def _check_hyperparameter(key: str, name: str, dimension: Dimension, known: Sequence[str]) -> None:
    """Raise InputError unless the built-in training has that hyperparameter and would take its extreme values."""
    if name not in known:
        raise InputError(f"{key}: {unknown_name('hyperparameter', name, known)}")
    ends = dimension.choices if dimension.choices is not None else (dimension.low, dimension.high)
    keys = ["choices"] * len(ends) if dimension.choices is not None else ["low", "high"]
    for end, value in zip(keys, ends, strict=True):
        whole = _is_whole(name) and isinstance(value, float) and value.is_integer()
        try:
            Train.model_validate({name: int(value) if whole else value})
        except ValidationError as error:
            must = allowed(error.errors()[0], Train, name)
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            raise InputError(f"{key}.{end} is {shown}, but it must be {must}") from None


def _is_whole(name: str) -> bool:
    return Train.model_fields[name].annotation == int | None


def _distribution(name: str, dimension: Dimension, *, own: bool) -> Distribution:
    """The distribution of the hyperparameter ``name``: of numbers as ``[train]`` takes them, or as they are written."""
    low, high, log, step = dimension.low, dimension.high, dimension.log, dimension.step
    if dimension.choices is not None:
        kind = None if own else int if _is_whole(name) else float
        return Categorical([value if kind is None else kind(value) for value in dimension.choices])
    assert low is not None
    assert high is not None
    whole = all(isinstance(each, int) for each in (low, high, step or 1)) if own else _is_whole(name)
    return Int(int(low), int(high), log=log, step=int(step or 1)) if whole else Float(low, high, log=log, step=step)
