"""Arguments that were given in another form than the one they have: a sentence that says what to write."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar

from prunetune.errors import InputError, unknown_name

P = ParamSpec("P")
R = TypeVar("R")


def check_options(name: str, given: object, kind: type[Any]) -> None:
    """Raise InputError unless ``given``, the argument ``name``, is of the class ``kind`` that holds its options."""
    if isinstance(given, kind):
        return
    known = {field.name for field in fields(kind)}
    example = "…"
    if isinstance(given, dict) and given and known.issuperset(given):
        example = ", ".join(f"{key}={value!r}" for key, value in given.items())
    raise InputError(f"{name} is {given!r}, but it must be a {kind.__name__}: write {name}={kind.__name__}({example})")


def names_checked(**options: type[Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: an argument that the function has not is an InputError that says where it belongs.

    ``options`` are those arguments that hold more of them, with their classes, of which they have to be.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = inspect.signature(function).parameters

        @functools.wraps(function)
        def checked(*args: P.args, **given: P.kwargs) -> R:
            for name, value in given.items():
                if name not in known:
                    raise _unknown(function.__name__, name, value)
                if name in options:
                    check_options(name, value, options[name])
            return function(*args, **given)

        def _unknown(called: str, name: str, value: object) -> InputError:
            for holder, kind in options.items():
                if name in {field.name for field in fields(kind)}:
                    write = f"{holder}={kind.__name__}({name}={value!r})"
                    return InputError(
                        f"{called} was given {name}={value!r}, which belongs into {holder}: write {write}"
                    )
            return InputError(f"{called}: {unknown_name('argument', name, known)}")

        return checked

    return decorate
