"""The configuration of ``prunetune run``: a TOML file, checked as a whole before anything runs.

Whatever is wrong in it becomes one sentence that names the key, what was given and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from prunetune.budgets import BUDGETS
from prunetune.comparison.section import Compare
from prunetune.complaints import allowed, first_sentence
from prunetune.errors import InputError, unknown_name
from prunetune.section import Section

if TYPE_CHECKING:
    import prunetune.fidelity
    from prunetune.backends import Distribution, SearchSpace


class Model(Section):
    """``[model]``: the full network."""

    name: str


class Data(Section):
    """``[data]``: the images. Without ``image_size`` they keep their own; ``seed`` is that of the split.

    With ``download`` files that are missing are fetched, into ``root`` where that is given.
    """

    name: str
    image_size: int | None = Field(default=None, ge=8, le=1024)
    root: str | None = None
    download: bool = False
    seed: int = Field(default=0, ge=0, lt=2**63)


class Pruning(Section):
    """``[pruning]``: how the proxy is cut. ``percentile`` and ``floor`` are the paper's p and γ.

    Instead of ``percentile`` one of: ``ratio`` of every group's channels, a share of the ``flops`` or ``params``, or
    ``speedup`` of a training step.
    """

    scorer: str = "synflow"
    percentile: float | None = Field(default=None, gt=0, lt=100)
    ratio: float | None = Field(default=None, gt=0, le=1)
    flops: float | None = Field(default=None, gt=0, le=1)
    params: float | None = Field(default=None, gt=0, le=1)
    speedup: float | None = Field(default=None, ge=1)
    depth: bool = False
    floor: float | None = Field(default=None, gt=0, le=1)
    protect: tuple[str, ...] = Field(default=(), strict=False)
    multiple_of: int = Field(default=1, ge=1)
    heads: Literal["auto", "dims", "whole"] = "auto"
    weights: Literal["redraw", "reset", "sliced"] = "redraw"
    transfer: str = "mup"

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if self.ratio is not None and self.floor is not None:
            given.append("floor")
        if len(given) > 1:
            raise ValueError(
                f"pruning.{given[0]} and pruning.{given[1]} are both given, but only one can decide; drop one"
            )
        return self


class Fidelity(Section):
    """``[fidelity]``: what makes trials cheap besides the narrower proxy; all whole without it.

    A ``name``; or shares of the full images' ``resolution``, of the ``epochs`` and of the training ``data``; or the
    ``cost`` of a trial as a share of a full training, the shares then being the least that may come of it.
    """

    name: str | None = None
    resolution: float | None = Field(default=None, gt=0, le=1)
    epochs: float | None = Field(default=None, gt=0, le=1)
    data: float | None = Field(default=None, gt=0, le=1)
    cost: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _name_or_shares(self) -> Self:
        given = self.shares() if self.cost is None else {"cost": self.cost}
        if self.name is not None and given:
            raise ValueError(
                f"fidelity.name and fidelity.{next(iter(given))} are both given, but only one can decide; drop one"
            )
        return self

    def shares(self) -> dict[str, float]:
        """The shares that were given."""
        return self.model_dump(include={"resolution", "epochs", "data"}, exclude_none=True)


class Dimension(Section):
    """``[search.space.NAME]``: ``low`` to ``high``, logarithmic if ``log``, or only every ``step``; or ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = Field(default=None, gt=0)
    choices: tuple[float, ...] | None = Field(default=None, min_length=1, strict=False)

    @model_validator(mode="after")
    def _range_or_choices(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("has choices as well as a range (low, high, log, step), but can have only one of them")
            for value in self.choices:
                if self.choices.count(value) > 1:
                    raise ValueError(f"has the choice {value:g} twice")
        elif self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        elif not self.low < self.high:
            raise ValueError(f"goes from low = {self.low:g} to high = {self.high:g}, but low must be below high")
        elif self.log and self.low <= 0:
            raise ValueError(f"has log = true and low = {self.low:g}, but a logarithmic range must begin above 0")
        return self


def _space_form(value: object) -> str | None:
    return "<name>" if isinstance(value, str) else "<table>" if isinstance(value, dict) else None


Space: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[dict[str, Dimension], Field(min_length=1), Tag("<table>")],
    Discriminator(
        _space_form,
        custom_error_type="space_form",
        custom_error_message="a name or tables such as [search.space.learning_rate]",
    ),
]


class Search(Section):
    """``[search]``: what is searched, by what, and for how long. ``confirm`` of the best, or "auto", are
    trained in full.

    ``storage`` is the URL of a database that other machines reach, ``study`` the name of the search in it. With
    ``race`` full trainings that are clearly behind are stopped; ``refine`` more trials follow on the full network.
    """

    optimizer: str = "optuna:cmaes"
    trial_pruner: str = "asha"
    rungs: Literal["truncated", "reannealed"] = "truncated"
    n_trials: int = Field(default=50, ge=1, le=1_000_000)
    epochs: int = Field(default=160, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    confirm: int | Literal["auto"] = 3
    space: Space = "paper"
    storage: str | None = Field(default=None, repr=False)
    study: str | None = Field(default=None, min_length=1, max_length=200)
    race: bool = True
    refine: int = Field(default=0, ge=0, le=1_000_000)
    first: tuple[dict[str, float], ...] = Field(default=(), strict=False)

    @field_validator("confirm", mode="plain")
    @classmethod
    def _count_or_auto(cls, confirm: object) -> object:
        if confirm == "auto" or (isinstance(confirm, int) and not isinstance(confirm, bool) and confirm >= 0):
            return confirm
        raise ValueError(f"search.confirm is {confirm!r}, but it must be 'auto' or a whole number of at least 0")

    @model_validator(mode="after")
    def _confirm_trials(self) -> Self:
        if "confirm" in self.model_fields_set and self.confirm != "auto" and self.confirm > self.n_trials:
            raise ValueError(
                f"search.confirm is {self.confirm}, but there are only search.n_trials = {self.n_trials} to confirm"
            )
        return self


class Train(Section):
    """``[train]``: the learning-rate schedule, hyperparameters that are fixed instead of searched, and the loop.

    ``flip``, ``rotation`` (degrees to either side) and ``padding`` (pixels) are those of the dataset unless given;
    ``amp``, ``channels_last`` and ``compile`` say how the device computes.
    """

    schedule: Literal["cosine", "step"] = "step"
    learning_rate: float | None = Field(default=None, gt=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    batch_size: int | None = Field(default=None, ge=2)
    lr_decay: float | None = Field(default=None, gt=0, le=1)
    flip: bool | None = None
    rotation: float | None = Field(default=None, ge=0, le=180)
    padding: int | None = Field(default=None, ge=0, le=128)
    amp: Literal["auto", "off", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False

    def fixed(self) -> dict[str, Any]:
        """The hyperparameters that were given a value."""
        return self.model_dump(include=set(HYPERPARAMETERS), exclude_none=True)

    def augmentation(self) -> dict[str, Any]:
        """What of the dataset's augmentation was given another value."""
        return self.model_dump(include={"flip", "rotation", "padding"}, exclude_none=True)


HYPERPARAMETERS = ("batch_size", "learning_rate", "lr_decay", "momentum", "weight_decay")
"""What a search may set: those that ``[train]`` can fix."""


class Run(Section):
    """``[run]``: the folder that everything is written to, and the device (auto: a GPU if there is one).

    Processes of ``run --workers`` have the GPUs in turn: all, or those of a list, "cuda:0,cuda:2".

    ``energy``: whether electricity is measured (unless given, where codecarbon is installed), and CO2, if codecarbon
    knows the grid of the ``country``, a three-letter ISO code.
    """

    folder: str
    device: str = "auto"
    energy: bool | None = None
    country: str | None = None

    @field_validator("country")
    @classmethod
    def _country_code(cls, country: str | None) -> str | None:
        if country is not None and not re.fullmatch("[A-Z]{3}", country):
            raise ValueError(
                f"run.country is {country!r}, but it must be a three-letter ISO code, such as 'KOR' or 'DEU'"
            )
        return country

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda|cuda:\d+(,cuda:\d+)*", device):
            raise ValueError(f"run.device is {device!r}, but it must be 'auto', 'cpu', 'cuda', 'cuda:1' (…) or 'mps'")
        return device


class Config(Section):
    """A whole configuration file."""

    model: Model
    data: Data
    pruning: Pruning = Pruning()
    search: Search = Search()
    fidelity: Fidelity = Fidelity()
    train: Train = Train()
    compare: Compare = Compare()
    run: Run


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
        return parse_config(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def with_download(config: Config) -> Config:
    """The same configuration with ``data.download = true``. Raises InputError where that cannot be."""
    asked = config.model_copy(update={"data": config.data.model_copy(update={"download": True})})
    _check_names(asked)
    return asked


def with_energy(config: Config) -> Config:
    """The same configuration with ``run.energy = true``."""
    return config.model_copy(update={"run": config.run.model_copy(update={"energy": True})})


def parse_config(content: Mapping[str, Any]) -> Config:
    """The configuration in nested tables. Raises InputError with one sentence for the first thing that is wrong."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise InputError(first_sentence(error, Config)) from None
    _check_names(config)
    _check_space(config)
    _check_storage(config)
    _check_rungs(config)
    _check_comparison(config)
    return config


def search_space(config: Config) -> SearchSpace:
    """What a configuration searches: a space by its name, or the ranges and choices that it lists."""
    from prunetune.backends import SearchSpace, spaces

    if isinstance(config.search.space, str):
        return spaces[config.search.space]
    return SearchSpace({name: _distribution(name, each) for name, each in config.search.space.items()})


def fidelity_of(config: Config) -> prunetune.fidelity.Fidelity:
    """What a configuration asks of its trials."""
    from prunetune.fidelity import Fidelity, fidelities

    asked = config.fidelity
    if asked.name is not None:
        return fidelities[asked.name]
    return Fidelity(**asked.shares()) if asked.cost is None else Fidelity.for_budget(asked.cost, **asked.shares())


def _check_names(config: Config) -> None:
    """Raise InputError for a name that cannot be looked up, and where the dataset has no folder or no download."""
    from prunetune.backends import optimizers, spaces, trial_pruners
    from prunetune.data import datasets
    from prunetune.fidelity import fidelities
    from prunetune.plugins import check_scorer
    from prunetune.transfer import transfers
    from prunetune.zoo import models

    named: list[tuple[str, str, Callable[[str], None]]] = [
        ("model.name", config.model.name, models.check),
        ("data.name", config.data.name, datasets.check),
        ("pruning.scorer", config.pruning.scorer, check_scorer),
        ("pruning.transfer", config.pruning.transfer, transfers.check),
        ("search.optimizer", config.search.optimizer, optimizers.check),
        ("search.trial_pruner", config.search.trial_pruner, trial_pruners.check),
    ]
    if config.fidelity.name is not None:
        named.append(("fidelity.name", config.fidelity.name, fidelities.check))
    if isinstance(config.search.space, str):
        named.append(("search.space", config.search.space, spaces.check))
    for key, given, check in named:
        try:
            check(given)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
    dataset = datasets[config.data.name]
    if config.data.root is not None and not dataset.reads_files:
        raise InputError(
            f"data.root is {config.data.root!r}, but {config.data.name} is not read from a folder; drop it"
        )
    if config.data.download and dataset.fetch is None:
        fetched = ", ".join(name for name in datasets if datasets[name].fetch is not None)
        raise InputError(
            f"data.download is true, but {config.data.name} cannot be downloaded (that can {fetched}); drop it"
        )


def _check_space(config: Config) -> None:
    """Raise InputError where the space and the fixed values contradict each other or the job's possible values."""
    from prunetune.backends.space import check_points

    if not isinstance(config.search.space, str):
        for name, dimension in config.search.space.items():
            key = f"search.space.{name}"
            if name not in HYPERPARAMETERS:
                raise InputError(f"{key}: {unknown_name('hyperparameter', name, HYPERPARAMETERS)}")
            for end, value in _ends(dimension):
                _check_value(f"{key}.{end}", name, value)
            try:
                _distribution(name, dimension)
            except InputError as error:
                raise InputError(f"{key}: {error}") from None
    check_points("search.first", config.search.first, search_space(config))
    searched, fixed = set(search_space(config)), set(config.train.fixed())
    if both := searched & fixed:
        raise InputError(f"train.{min(both)} fixes a hyperparameter that search.space searches; drop one of them")
    if config.train.schedule != "step" and "lr_decay" in searched | fixed:
        raise InputError(
            f"train.schedule is {config.train.schedule!r}, in which lr_decay has no part; drop lr_decay or take 'step'"
        )


def _check_rungs(config: Config) -> None:
    """Raise InputError if schedules are to be finished at rungs and the trial pruner has none."""
    if config.search.rungs == "reannealed":
        from prunetune.backends.reannealed import check_rungs

        try:
            check_rungs(config.search.trial_pruner, config.search.epochs)
        except InputError as error:
            raise InputError(f"search.{error}") from None


def _check_comparison(config: Config) -> None:
    """Raise InputError where [compare] names what there is not, or asks for what cannot be."""
    if "compare" not in config.model_fields_set:
        return
    from prunetune.comparison.settings import Comparison
    from prunetune.zoo import models

    try:
        asked = config.compare.settings()
        Comparison(**{"cost": 1.0, **asked})  # its share is found out later, if it is not said
        for name in config.compare.smaller:
            models.check(name)
    except InputError as error:
        raise InputError(f"compare: {error}") from None


def _check_storage(config: Config) -> None:
    if config.search.storage is None:
        if config.search.study is not None:
            raise InputError(
                f"search.study is {config.search.study!r}, but the study in a run folder has no other name; give "
                "search.storage, or drop it"
            )
        return
    from prunetune.backends.storage import check_url

    try:
        check_url(config.search.storage)
    except InputError as error:
        raise InputError(f"search.storage: {error}") from None


def _ends(dimension: Dimension) -> Iterable[tuple[str, float]]:
    """The extreme values of a dimension, each with the key that it comes from."""
    if dimension.choices is not None:
        yield from (("choices", value) for value in dimension.choices)
    elif dimension.low is not None and dimension.high is not None:
        yield from (("low", dimension.low), ("high", dimension.high))


def _distribution(name: str, dimension: Dimension) -> Distribution:
    """The distribution of the hyperparameter ``name``: whole numbers for one that ``[train]`` takes as such."""
    from prunetune.backends import Categorical, Float, Int

    whole = Train.model_fields[name].annotation == int | None
    if dimension.choices is not None:
        return Categorical([int(value) if whole else value for value in dimension.choices])
    (_, low), (_, high) = _ends(dimension)
    log, step = dimension.log, dimension.step
    return Int(int(low), int(high), log=log, step=int(step or 1)) if whole else Float(low, high, log=log, step=step)


def _check_value(key: str, name: str, value: float) -> None:
    """Raise InputError unless ``[train]`` would take ``value`` for the hyperparameter ``name``."""
    whole = Train.model_fields[name].annotation == int | None and value == int(value)
    try:
        Train.model_validate({name: int(value) if whole else value})
    except ValidationError as error:
        raise InputError(f"{key} is {value:g}, but it must be {allowed(error.errors()[0], Train, name)}") from None
