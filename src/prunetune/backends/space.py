"""What is searched: a ``SearchSpace`` gives each hyperparameter its ``Float``, ``Int`` or ``Categorical`` range."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from prunetune.errors import InputError, unknown_name
from prunetune.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

Choice: TypeAlias = bool | int | float | str | None
Params: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Float:
    """A real number between two ends.

    Parameters
    ----------
    low, high
        The ends, both included.
    log
        Whether the logarithm is uniform, for ranges over several orders of magnitude; ``low`` must be above 0.
    step
        Only ``low``, ``low + step``, ``low + 2 * step``, …; None for every number.

    Example
    -------
    >>> Float(1e-5, 0.2, log=True)
    Float(low=1e-05, high=0.2, log=True)
    """

    low: float
    high: float
    log: bool = field(default=False, kw_only=True)
    step: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for end in ("low", "high") if self.step is None else ("low", "high", "step"):
            value = getattr(self, end)
            if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
                raise InputError(f"{self}: {end} must be a finite number")
            object.__setattr__(self, end, float(value))
        _check_range(self)

    def __repr__(self) -> str:
        return _shown(self)

    def to_optuna(self) -> BaseDistribution:
        """The same as Optuna's distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """The value of a trial of Optuna's."""
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)

    def values(self) -> list[float]:
        """The values that a step leads to. Raises InputError for a range without."""
        if self.step is None:
            raise InputError(f"{self} has no step, so its values cannot be counted")
        count = round((self.high - self.low) / self.step) + 1
        return [float(f"{self.low + self.step * place:.12g}") for place in range(count)]

    def plain(self, value: Any) -> float:
        """``value`` as a Python float."""
        return float(value)


@dataclass(frozen=True)
class Int:
    """A whole number between two ends.

    Parameters
    ----------
    low, high, log
        As for ``Float``.
    step
        Only ``low``, ``low + step``, ``low + 2 * step``, …

    Example
    -------
    >>> Int(32, 128, step=32).values()
    [32, 64, 96, 128]
    """

    low: int
    high: int
    log: bool = field(default=False, kw_only=True)
    step: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        for end in ("low", "high", "step"):
            value = getattr(self, end)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise InputError(f"{self}: {end} must be a whole number")
            object.__setattr__(self, end, int(value))
        _check_range(self)

    def __repr__(self) -> str:
        return _shown(self)

    def to_optuna(self) -> BaseDistribution:
        """The same as Optuna's distribution."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: BaseTrial, name: str) -> int:
        """The value of a trial of Optuna's."""
        return trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step)

    def values(self) -> list[int]:
        """The values that a step leads to. Raises InputError for a range without."""
        count = round((self.high - self.low) / self.step) + 1
        return [self.low + self.step * place for place in range(count)]

    def plain(self, value: Any) -> int:
        """``value`` as a Python int."""
        return int(value)


@dataclass(frozen=True)
class Categorical:
    """One of several choices, which have no order.

    Parameters
    ----------
    choices
        What to choose from: None, truth values, numbers or texts. For anything else, give names, and have a dict from
        names to things in the train function.
    """

    choices: tuple[Choice, ...]

    def __init__(self, choices: Sequence[Choice]) -> None:
        if isinstance(choices, str) or not isinstance(choices, Sequence | np.ndarray):
            raise InputError(f"Categorical({choices!r}): choices must be a list or tuple")
        values = tuple(value.item() if isinstance(value, np.generic) else value for value in choices)
        object.__setattr__(self, "choices", values)
        if not values:
            raise InputError("Categorical([]): give at least one choice")
        for position, value in enumerate(values):
            if not isinstance(value, bool | int | float | str | None):
                raise InputError(
                    f"Categorical: {value!r} cannot be a choice; use None, bool, int, float or str: names, say, "
                    "Categorical(['small', 'large']), and in the train function a dict from each to what it stands for"
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"Categorical: {value!r} cannot be a choice; numbers must be finite")
            if value in values[:position]:  # 1, 1.0 and True are equal, and Optuna cannot tell them apart either
                raise InputError(f"Categorical{values!r}: {value!r} is there twice; choices must differ")

    def to_optuna(self) -> BaseDistribution:
        """The same as Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def suggest(self, trial: BaseTrial, name: str) -> Choice:
        """The value of a trial of Optuna's."""
        return trial.suggest_categorical(name, self.choices)

    def plain(self, value: Any) -> Choice:
        """The choice that equals ``value``."""
        return self.choices[self.choices.index(value)]


Distribution: TypeAlias = Float | Int | Categorical

_TYPES: Final[Mapping[str, type[Float | Int | Categorical]]] = {"float": Float, "int": Int, "categorical": Categorical}


def _check_range(distribution: Float | Int) -> None:
    if not isinstance(distribution.log, bool):
        raise InputError(f"{distribution}: log must be True or False")
    if not distribution.low < distribution.high:
        raise InputError(f"{distribution}: low must be below high (for one fixed value use Categorical([value]))")
    if is_stepped(distribution):
        step = distribution.step or 0
        count = (distribution.high - distribution.low) / step if step > 0 else 0.5
        if distribution.log:
            raise InputError(f"{distribution}: a log range has no step; leave one of them out, or list the values")
        if abs(count - round(count)) > 1e-8:
            raise InputError(f"{distribution}: step must be above 0, and lead from low to high in whole steps")
    if distribution.log and distribution.low <= 0:
        raise InputError(
            f"{distribution}: a log range must begin above 0, which has no logarithm; give the smallest value worth "
            "trying, such as 1e-6, or leave log out"
        )


class SearchSpace(Mapping[str, Distribution]):
    """A frozen mapping from the name of each hyperparameter to where its values come from.

    Parameters
    ----------
    dimensions
        The names with their ``Float``, ``Int`` or ``Categorical``.

    Example
    -------
    >>> space = SearchSpace({"learning_rate": Float(1e-5, 0.2, log=True), "batch_size": Int(32, 1024, log=True)})
    >>> SearchSpace.from_json(space.to_json()) == space
    True
    """

    def __init__(self, dimensions: Mapping[str, Distribution]) -> None:
        if not isinstance(dimensions, Mapping):
            raise InputError(f"a search space maps names to distributions; {dimensions!r} is no mapping")
        if not dimensions:
            raise InputError("the search space is empty; give at least one hyperparameter")
        for name, distribution in dimensions.items():
            if not isinstance(name, str) or not name:
                raise InputError(f"{name!r} cannot be the name of a hyperparameter; use text that is not empty")
            if not isinstance(distribution, Distribution):
                raise InputError(f"{name}: {distribution!r} is {_instead(name, distribution)}")
        self._dimensions = dict(dimensions)

    def __getitem__(self, name: str) -> Distribution:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __repr__(self) -> str:
        return f"SearchSpace({self._dimensions!r})"

    def to_optuna(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions, in the same order."""
        return {name: distribution.to_optuna() for name, distribution in self.items()}

    @classmethod
    def from_optuna(cls, distributions: Mapping[str, BaseDistribution]) -> SearchSpace:
        """The space of these distributions of Optuna's: what ``study.trials[0].distributions`` has.

        Raises InputError, naming the hyperparameter, for a step other than a whole number's 1.
        """
        return cls({name: _from_optuna(name, distribution) for name, distribution in distributions.items()})

    def suggest(self, trial: BaseTrial) -> Params:
        """The hyperparameters of a trial of Optuna's, in a study of the user's own."""
        return self.plain({name: distribution.suggest(trial, name) for name, distribution in self.items()})

    def named(self, values: Mapping[str, Any] | Sequence[Any]) -> Params:
        """A dict of plain values, from one, or from the values in the order of this space.

        >>> SearchSpace({"x": Float(0, 1), "n": Int(1, 9)}).named([np.float64(0.5), np.int64(3)])
        {'x': 0.5, 'n': 3}
        """
        if not isinstance(values, Mapping):
            if len(values) != len(self):
                raise InputError(f"{len(values)} values for {len(self)} hyperparameters ({', '.join(self)})")
            values = dict(zip(self, values, strict=True))
        return self.plain(values)

    def complaint(self, params: Mapping[str, Any]) -> str:
        """Why these hyperparameters, of which some may be missing, are not in this space; empty if they are.

        >>> SearchSpace({"n": Int(1, 9)}).complaint({"n": 10})
        'n is 10, which is not in Int(low=1, high=9, log=False)'
        """
        for name, value in params.items():
            if name not in self:
                return str(unknown_name("hyperparameter", str(name), self))
            if not holds(self[name], value):
                return f"{name} is {value!r}, which is not in {self[name]}"
        return ""

    def plain(self, params: Mapping[str, Any]) -> Params:
        """The hyperparameters in ``params`` as plain Python values (no numpy), in the order of this space."""
        return {name: distribution.plain(params[name]) for name, distribution in self.items()}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """As nested plain values: ``{"momentum": {"type": "float", "low": 0.1, "high": 0.99, "log": False}}``."""
        names = {cls: name for name, cls in _TYPES.items()}
        return {
            name: {"type": names[type(distribution)], **_listed(distribution)} for name, distribution in self.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Any]]) -> SearchSpace:
        """The space that ``to_dict`` described. Raises InputError with a sentence that begins with the key."""
        if not isinstance(data, Mapping):
            raise InputError(f"a search space maps names to distributions; {data!r} is no mapping")
        return cls({name: _read(name, description) for name, description in data.items()})

    def to_json(self) -> str:
        """``to_dict`` as JSON text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> SearchSpace:
        """The space that ``to_json`` wrote. Raises InputError."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InputError(f"this search space is not JSON: {error}") from None
        return cls.from_dict(data)


def _instead(name: str, given: Any) -> str:
    """What something that is none of our distributions is, and what to write."""
    if type(given).__module__ == "optuna.distributions":
        return f"Optuna's; write {_from_optuna(name, given)}, or SearchSpace.from_optuna(…) around them all"
    return "no distribution; use Float(low, high), Int(low, high) or Categorical(choices)"


def _from_optuna(name: str, distribution: BaseDistribution) -> Distribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return Categorical(distribution.choices)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise InputError(f"{name}: {distribution!r} is no distribution of floats, ints or categories")
    if isinstance(distribution, IntDistribution):
        return Int(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    return Float(distribution.low, distribution.high, log=distribution.log, step=distribution.step)


def is_stepped(distribution: Float | Int) -> bool:
    """Whether only every so many numbers of a range are in it."""
    return distribution.step is not None if isinstance(distribution, Float) else distribution.step != 1


def _shown(distribution: Float | Int) -> str:
    step = f", step={distribution.step!r}" if is_stepped(distribution) else ""
    ends = f"low={distribution.low!r}, high={distribution.high!r}"
    return f"{type(distribution).__name__}({ends}, log={distribution.log!r}{step})"


def holds(distribution: Distribution, value: Any) -> bool:
    """Whether a hyperparameter may have this value."""
    if isinstance(distribution, Categorical):
        return value in distribution.choices
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    number = float(value)
    if not distribution.low <= number <= distribution.high:
        return False
    if isinstance(distribution, Float) and distribution.step is None:
        return True
    steps = (number - distribution.low) / (distribution.step or 1)
    return abs(steps - round(steps)) < 1e-8


def _listed(distribution: Distribution) -> dict[str, Any]:
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(distribution).items()}
    if isinstance(distribution, Float | Int) and not is_stepped(distribution):
        del values["step"]  # older versions have none
    return values


def _read(name: str, description: Mapping[str, Any]) -> Distribution:
    if not isinstance(description, Mapping) or "type" not in description:
        raise InputError(f"{name}: {description!r} is no distribution; give type ({', '.join(_TYPES)}) and its limits")
    kind, given = (description["type"], {key: value for key, value in description.items() if key != "type"})
    if kind not in _TYPES:
        raise InputError(f"{name}: {unknown_name('distribution', str(kind), _TYPES)}")
    known = [each.name for each in fields(_TYPES[kind])]
    for key in given:
        if key not in known:
            raise InputError(f"{name}: {unknown_name('key', str(key), known)}")
    for key in known:
        if key not in given and key not in ("log", "step"):
            raise InputError(f"{name}: {key} is missing")
    try:
        return _TYPES[kind](**given)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


spaces: Registry[SearchSpace] = Registry("search space")

_TABLE_2: Final[Mapping[str, Distribution]] = {  # the paper's Table 2
    "learning_rate": Float(1e-5, 0.2, log=True),
    "weight_decay": Float(1e-5, 2e-2, log=True),
    "batch_size": Int(32, 1024, log=True),
}
spaces.register("paper", SearchSpace(_TABLE_2))
spaces.register("paper-extra", SearchSpace({**_TABLE_2, "lr_decay": Float(0.1, 1.0), "momentum": Float(0.1, 0.99)}))


def resolve_space(space: str | Mapping[str, Distribution]) -> SearchSpace:
    """The space of that name, or the mapping itself as a space. Raises InputError.

    >>> list(resolve_space("paper"))
    ['learning_rate', 'weight_decay', 'batch_size']
    """
    if isinstance(space, str):
        return spaces[space]
    return space if isinstance(space, SearchSpace) else SearchSpace(space)


def check_points(key: str, first: object, space: SearchSpace) -> list[dict[str, Any]]:
    """The points as plain dicts. Raises InputError for one that is not in ``space``, or is none."""
    if isinstance(first, Mapping | str) or not isinstance(first, Sequence):
        raise InputError(f"{key} must be several points; got {first!r}: put it into a list")
    points = []
    for place, point in enumerate(first):
        if not isinstance(point, Mapping) or not point:
            raise InputError(f"{key}[{place}] is {point!r}, but it must be a dict of hyperparameters")
        if complaint := space.complaint(point):
            raise InputError(f"{key}[{place}]: {complaint}")
        points.append({name: space[name].plain(value) for name, value in point.items()})
    return points
