"""The tables of a configuration and their keys, with the bounds of each: what ``prunetune run`` reads."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, PydanticKnownError, core_schema

from prunetune._utils.options import Options
from prunetune.comparison.settings import Comparison
from prunetune.data import JOBS
from prunetune.errors import InputError
from prunetune.ladder import ladders
from prunetune.ladder.budget import read_budget
from prunetune.ladder.rung import Ladder, Rung
from prunetune.tuning.settings import Count, Pruning, Search, Seed


def _number(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """A number as it was written: 1 stays a whole number, 1.0 does not become one."""
    checked = check(value)
    return value if isinstance(value, int) else checked


def _as_is(value: Any) -> Any:
    return value


def _scalar(value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    raise PydanticCustomError("scalar", "a number, text in quotes, true or false")


def _form(value: object) -> str | None:
    kinds: dict[type, str] = {str: "<name>", dict: "<table>", list: "<list>", tuple: "<list>"}
    return kinds.get(type(value))


Names: TypeAlias = Annotated[tuple[str, ...], Field(strict=False)]
Number: TypeAlias = Annotated[float, WrapValidator(_number), PlainSerializer(_as_is)]
Scalar: TypeAlias = Annotated[Any, PlainValidator(_scalar)]
Inputs: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[Names, Field(min_length=1), Tag("<list>")],
    Discriminator(
        _form, custom_error_type="inputs_form", custom_error_message="a list of shapes, or module:function as text"
    ),
]


class Section(BaseModel):
    """A table of the file: immutable, and every key in it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FromTable:
    """In an annotation: a class of options is read from a table, of which every key is known."""

    @staticmethod
    def __get_pydantic_core_schema__(kind: type[Options], _: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(partial(_options, kind))


def _options(kind: type[Options], table: object) -> Options:
    if not isinstance(table, dict):
        raise PydanticKnownError("dict_type")
    known = {field.name for field in fields(kind)}
    unknown: list[InitErrorDetails] = [
        {"type": "extra_forbidden", "loc": (key,), "input": value} for key, value in table.items() if key not in known
    ]
    if unknown:
        raise ValidationError.from_exception_data(kind.__name__, unknown)
    return kind(**table)


class Model(Section):
    """``[model]``: the full network, by its name, or by the ``module:function`` that builds it.

    For texts it is a folder with a checkpoint of transformers, or its ``config.json``; ``timm/NAME`` is timm's.

    ``inputs``, for a train function of one's own, is one batch as the network takes it: the shape of each argument,
    "64,1,28,28" or "64,128:int64", or the ``module:function`` that gives it.
    """

    name: str
    inputs: Inputs | None = None

    @property
    def is_own(self) -> bool:
        """Whether somebody's code builds it."""
        return ":" in self.name


class Data(Section):
    """``[data]``: images or texts. Without ``image_size`` images keep their own; ``seed`` is that of the split.

    With ``download`` files that are missing are fetched, into ``root`` where that is given. Texts are cut after
    ``length`` tokens of the ``tokenizer``, a folder, by default that of the model.
    """

    name: str
    image_size: int | None = Field(default=None, ge=8, le=1024)
    root: str | None = None
    download: bool = False
    seed: int = Field(default=0, ge=0, lt=2**63)
    length: int | None = Field(default=None, ge=2)
    tokenizer: str | None = None


class Dimension(Section):
    """``[search.space.NAME]``: ``low`` to ``high``, logarithmic if ``log``, or only every ``step``; or ``choices``."""

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = Field(default=None, gt=0)
    choices: tuple[Scalar, ...] | None = Field(default=None, min_length=1, strict=False)

    @model_validator(mode="after")
    def _range_or_choices(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("has choices as well as a range (low, high, log, step), but can have only one of them")
            for value in self.choices:
                if self.choices.count(value) > 1:
                    raise ValueError(f"has the choice {value!r} twice")
        elif self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        elif not self.low < self.high:
            raise ValueError(f"goes from low = {self.low:g} to high = {self.high:g}, but low must be below high")
        elif self.log and self.low <= 0:
            raise ValueError(f"has log = true and low = {self.low:g}, but a logarithmic range must begin above 0")
        return self


Space: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[dict[str, Dimension], Field(min_length=1), Tag("<table>")],
    Discriminator(
        _form,
        custom_error_type="space_form",
        custom_error_message="a name or tables such as [search.space.learning_rate]",
    ),
]


class Nested(Section):
    """What is nested in the tables of options."""

    space: Space = "paper"
    first: tuple[dict[str, Scalar], ...] = Field(default=(), strict=False)
    proxies: dict[str, Annotated[Pruning, FromTable]] = {}

    @classmethod
    def reader(cls, name: str) -> Callable[[object], Any]:
        """A function for the annotation of the field ``name`` of a class of options, which reads it as here."""
        return lambda value: getattr(cls.model_validate({name: value}), name)


@dataclass(frozen=True)
class SearchTable(Search):
    """``[search]``: what is searched, by what, and for how long, see ``prunetune.Search``.

    ``direction`` is that of the score of a train function of one's own; an accuracy is maximized.
    """

    epochs: Count = 160
    seed: Seed = 0
    space: Annotated[str | dict[str, Dimension], Nested.reader("space")] = "paper"
    first: Annotated[tuple[dict[str, Any], ...], Nested.reader("first")] = ()


PROXY: Final = "proxy"


def _check_budget(value: object) -> None:
    read_budget(value)


def _read_ladder(rungs: object) -> tuple[Rung, ...]:
    """The rungs, of which ``width = "proxy"`` is that of [pruning]: TOML has no None."""
    if isinstance(rungs, tuple) and all(isinstance(each, Rung) for each in rungs):  # read before
        return rungs
    if not isinstance(rungs, list):
        return Ladder.from_record(rungs).rungs
    plain = [
        {**each, "width": None} if each.get("width") == PROXY else each for each in rungs if isinstance(each, dict)
    ]
    return Ladder.from_record(plain if len(plain) == len(rungs) else rungs).rungs


@dataclass(frozen=True)
class LadderTable(Options):
    """``[ladder]``: the rungs by a ``name``, or one by one, each a ``[[ladder.rung]]``; see ``prunetune.Ladder``.

    ``budget`` is what all trainings may cost: a number of full trainings, or time ("2h", "90m").
    """

    name: Annotated[str, ladders.check] | None = None
    budget: Annotated[Any, _check_budget] = None
    rung: Annotated[tuple[Rung, ...], _read_ladder] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rung and (self.name is not None or self.budget is not None):
            other = "name" if self.name is not None else "budget"
            raise InputError(f"ladder.rung and ladder.{other} are both given, but only one can decide; drop one")

    @property
    def asked(self) -> Ladder | str | None:
        """The ladder, or its name, if one was given."""
        return Ladder(*self.rung) if self.rung else self.name


class Train(Section):
    """``[train]``: the learning-rate schedule, hyperparameters that are fixed instead of searched, and the loop.

    ``flip``, ``rotation`` (degrees to either side) and ``padding`` (pixels) are those of the dataset unless given;
    ``amp``, ``channels_last`` and ``compile`` say how the device computes. Texts have ``warmup``, the share of the
    training in which the rate rises, in place of a schedule and of momentum.

    ``function`` is the ``module:function`` of one's own that trains instead, ``evaluate`` the one that evaluates the
    winner.
    """

    schedule: Literal["cosine", "step"] = "step"
    learning_rate: float | None = Field(default=None, gt=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    batch_size: int | None = Field(default=None, ge=2)
    lr_decay: float | None = Field(default=None, gt=0, le=1)
    warmup: float | None = Field(default=None, ge=0, lt=1)
    flip: bool | None = None
    rotation: float | None = Field(default=None, ge=0, le=180)
    padding: int | None = Field(default=None, ge=0, le=128)
    amp: Literal["auto", "off", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    function: str | None = None
    evaluate: str | None = None
    steps_per_epoch: Count | None = None

    def fixed(self) -> dict[str, Any]:
        """The hyperparameters that were given a value."""
        return self.model_dump(include={"warmup", *HYPERPARAMETERS[IMAGES]}, exclude_none=True)

    def augmentation(self) -> dict[str, Any]:
        """What of the dataset's augmentation was given another value."""
        return self.model_dump(include={"flip", "rotation", "padding"}, exclude_none=True)


IMAGES: Final = "image-classification"
OF_TEXTS: Final = ("batch_size", "learning_rate", "warmup", "weight_decay")
HYPERPARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    IMAGES: ("batch_size", "learning_rate", "lr_decay", "momentum", "weight_decay"),
    "text-classification": OF_TEXTS,
    "causal-lm": OF_TEXTS,
}
"""By job, what a search may set: what ``[train]`` can fix."""


@dataclass(frozen=True)
class CompareTable(Comparison):
    """``[compare]``: what ``prunetune compare`` compares, see ``prunetune.Comparison``.

    The proxy of a ``[pruning]`` that the file has is compared, too, as "configured"; ``smaller`` are models of the zoo.
    """

    proxies: Annotated[Mapping[str, Pruning], Nested.reader("proxies")] = field(default_factory=dict)
    smaller: tuple[str, ...] = ()


class RunTable(Section):
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
    data: Data | None = None
    pruning: Annotated[Pruning, FromTable] = Pruning()
    search: Annotated[SearchTable, FromTable] = SearchTable()
    ladder: Annotated[LadderTable, FromTable] = LadderTable()
    train: Train = Train()
    compare: Annotated[CompareTable, FromTable] = CompareTable()
    run: RunTable

    _source: Path | None = PrivateAttr(default=None)

    @property
    def job(self) -> str | None:
        """What the built-in training is to train; None where somebody's own function trains."""
        return None if self.data is None else JOBS.get(self.data.name, IMAGES)

    @property
    def source(self) -> Path | None:
        """The file that it was read from."""
        return self._source

    @property
    def code(self) -> tuple[str, ...]:
        """Each ``module:function`` that is imported and called."""
        inputs = self.model.inputs if isinstance(self.model.inputs, str) else None
        named = (self.model.name if self.model.is_own else None, inputs, self.train.function, self.train.evaluate)
        return tuple(name for name in (*named, *(each for each in self.compare.smaller if ":" in each)) if name)
