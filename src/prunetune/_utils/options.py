"""Classes of options: each field's annotation says what it may be, for Python, the command line and TOML alike."""

from __future__ import annotations

import contextlib
import math
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any, ClassVar, Final, Literal, Self, SupportsIndex, Union, get_args, get_origin

from prunetune._utils.checks import real_number
from prunetune.errors import InputError, unknown_name

BOUNDS: Final[Mapping[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "gt": ("above", operator.gt),
    "ge": ("at least", operator.ge),
    "lt": ("below", operator.lt),
    "le": ("at most", operator.le),
}
"""The attributes of ``annotated_types.Gt``, ``Ge``, ``Lt`` and ``Le``."""
WORDS: Final[Mapping[Any, str]] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
SHOWN: Final = 80  # characters of a wrong value


class Options:
    """The base of frozen dataclasses whose fields are checked, and converted, as their annotations say.

    In the annotation of a field ``Annotated[float, Gt(0), Le(1)]`` sets bounds. A function in it checks instead of the
    type: it raises InputError, and what it returns, unless that is None, replaces the value. Defaults are not checked.

    A module of such classes cannot import ``annotations`` from ``__future__``: they would be text.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __new__(cls, *_: object, **named: object) -> Self:
        """Refuse an unknown name with a sentence, where Python would raise a TypeError."""
        known = [field.name for field in fields(cls)]
        for name in named:
            if name not in known:
                raise InputError(f"{cls.__name__}: {unknown_name('argument', name, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not field.default:
                object.__setattr__(self, field.name, checked(field.name, value, field.type))

    @classmethod
    def part_of(cls, other: Options, **changes: object) -> Self:
        """The fields of this class that ``other``, of a class derived from it, has, but for ``changes``."""
        return cls(**{field.name: getattr(other, field.name) for field in fields(cls)} | changes)


def checked(name: str, value: object, kind: Any) -> Any:
    """``value`` as the annotation ``kind`` says. Raises InputError, in which it is called ``name``."""
    try:
        return _fitted(value, kind)
    except _UnfitError:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        raise InputError(f"{name} is {shown}, but it must be {in_words(kind)}") from None
    except InputError as error:
        if not str(error).startswith(name):
            error.args = (f"{name}: {error}",)
        raise


def bounds_in_words(marks: Iterable[object]) -> str:
    """The bounds among the marks of an annotation: "above 0 and below 100"."""
    found = [(word, getattr(mark, end, None)) for mark in marks for end, (word, _) in BOUNDS.items()]
    return " and ".join(f"{word} {limit:,}" for word, limit in found if limit is not None)


def in_words(kind: Any) -> str:
    """What an annotation allows: "a whole number of at least 1"."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = bounds_in_words(inside[1:])
        return in_words(inside[0]) + (" of " if bounds.startswith("at") else " " if bounds else "") + bounds
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(each) for each in inside if each is not types.NoneType)
    if origin is Literal:
        *others, last = map(repr, inside)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (tuple, Sequence):
        return f"a list, each entry {in_words(inside[0])}"
    if origin is Mapping:
        return f"a table, each entry {in_words(inside[1])}"
    return WORDS.get(kind) or f"a {kind.__name__}"


class _UnfitError(Exception):
    """A value is not what an annotation allows."""


def _fitted(value: Any, kind: Any) -> Any:
    """``value`` as ``kind`` says; raises _UnfitError, or what a function of the annotation raises."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _marked(value, *inside)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in inside:
            return None
        for each in inside:
            with contextlib.suppress(_UnfitError):
                return _fitted(value, each)
    elif origin is Literal:
        if isinstance(value, str) and value in inside:
            return value
    elif origin in (tuple, Sequence):
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return tuple(_fitted(each, inside[0]) for each in value)
    elif origin is Mapping:
        if isinstance(value, Mapping):
            return {_fitted(key, inside[0]): _fitted(each, inside[1]) for key, each in value.items()}
    elif kind is Any:
        return value
    elif kind is int:
        if isinstance(value, SupportsIndex) and not isinstance(value, bool):
            return operator.index(value)
    elif kind is float:
        with contextlib.suppress(InputError):
            if math.isfinite(number := real_number("it", value)):
                return number
    elif isinstance(value, kind):
        return value
    raise _UnfitError


def _marked(value: Any, kind: Any, *marks: Any) -> Any:
    """``value`` as ``kind`` and the bounds among ``marks`` say, or as the function among them does."""
    for mark in marks:
        if callable(mark):
            changed = mark(value)
            return value if changed is None else changed
    found = _fitted(value, kind)
    for mark in marks:
        for end, (_, holds) in BOUNDS.items():
            limit = getattr(mark, end, None)
            if limit is not None and not holds(found, limit):
                raise _UnfitError
    return found
