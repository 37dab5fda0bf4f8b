"""The configuration of ``prunetune run``: a TOML file, checked as a whole before anything runs.

Whatever is wrong in it becomes one sentence that names the key, what was given and what is allowed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from prunetune.backends import Categorical, Float, Int, SearchSpace, optimizers, spaces, trial_pruners
from prunetune.backends.space import check_points
from prunetune.cli.config_errors import allowed, first_sentence
from prunetune.cli.tables import HYPERPARAMETERS, Config, Dimension, Train
from prunetune.data import datasets
from prunetune.errors import InputError, unknown_name
from prunetune.zoo import models

if TYPE_CHECKING:
    from prunetune.backends import Distribution

OWN_TRAIN: Final = {"function", "evaluate"}
"""Keys of ``[train]`` for a train function of one's own; the others are the built-in training's."""


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
    _check_code(config)
    _check_names(config)
    _check_data(config)
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
    for key, given in (("model.inputs", config.model.inputs), ("train.evaluate", config.train.evaluate)):
        if given is not None:
            raise InputError(f"{key} goes with train.function, which is missing; give that, or drop {key}")
    if config.search.direction == "minimize":
        raise InputError(
            "search.direction is 'minimize', but the built-in training returns an accuracy; drop search.direction"
        )


def _check_names(config: Config) -> None:
    """Raise InputError for a name that cannot be looked up."""
    named: list[tuple[str, str, Callable[[str], None]]] = [
        ("search.optimizer", str(config.search.optimizer), optimizers.check),
        ("search.trial_pruner", str(config.search.trial_pruner), trial_pruners.check),
    ]
    if not config.model.is_own:
        named.insert(0, ("model.name", config.model.name, models.check))
    if isinstance(config.search.space, str):
        named.append(("search.space", config.search.space, spaces.check))
    for key, given, check in named:
        try:
            check(given)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None


def _check_data(config: Config) -> None:
    """Raise InputError for a dataset that there is not, or that has no folder or no download."""
    data = config.data
    if data is None:
        return
    try:
        datasets.check(data.name)
    except InputError as error:
        raise InputError(f"data.name: {error}") from None
    if data.root is None and not data.download:
        return
    dataset = datasets[data.name]
    if data.root is not None and not dataset.reads_files:
        raise InputError(f"data.root is {data.root!r}, but {data.name} is not read from a folder; drop it")
    if data.download and dataset.fetch is None:
        fetched = ", ".join(name for name in datasets if datasets[name].fetch is not None)
        raise InputError(f"data.download is true, but {data.name} cannot be downloaded (that can {fetched}); drop it")


def _check_space(config: Config) -> None:
    """Raise InputError where the space and the fixed values contradict each other or the job's possible values."""
    own = config.train.function is not None
    if not isinstance(config.search.space, str):
        for name, dimension in config.search.space.items():
            key = f"search.space.{name}"
            if not own:
                _check_hyperparameter(key, name, dimension)
            try:
                _distribution(name, dimension, own=own)
            except InputError as error:
                raise InputError(f"{key}: {error}") from None
    check_points("search.first", config.search.first, search_space(config))
    if own:
        return
    searched, fixed = set(search_space(config)), set(config.train.fixed())
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
            if ":" not in name:
                models.check(name)
                if config.data is None:
                    raise InputError(f"{name} takes its classes from [data]; give module:function")
        except InputError as error:
            raise InputError(f"compare.smaller: {error}") from None


def _check_hyperparameter(key: str, name: str, dimension: Dimension) -> None:
    """Raise InputError unless the built-in training has that hyperparameter and would take its extreme values."""
    if name not in HYPERPARAMETERS:
        raise InputError(f"{key}: {unknown_name('hyperparameter', name, HYPERPARAMETERS)}")
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
