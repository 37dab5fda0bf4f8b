"""Checks of single values, each failing with one sentence that names the value."""

from __future__ import annotations

import math
import operator
from typing import Final, Literal, SupportsIndex, TypeAlias, cast, get_args

from prunetune.errors import InputError

Direction: TypeAlias = Literal["maximize", "minimize"]
BETTER: Final[dict[Direction, str]] = {"maximize": "higher is better", "minimize": "lower is better"}


def known_direction(direction: object, how: str = "{}") -> Direction:
    """``direction``, if it is one. Raises InputError otherwise, and where it was left out: no name tells it.

    ``how`` is where the argument is written, for the message: ``search=Search({})``.

    >>> known_direction(None)
    Traceback (most recent call last):
        ...
    prunetune.errors.InputError: nothing says which scores are better: give direction='maximize' for an accuracy, \
'minimize' for a loss
    """
    if direction is None:
        raise InputError(
            "nothing says which scores are better: give "
            + how.format("direction='maximize'")
            + " for an accuracy, 'minimize' for a loss"
        )
    if direction not in get_args(Direction):
        raise InputError(f"direction is {direction!r}, but it must be 'maximize' or 'minimize'")
    return cast(Direction, direction)


def whole_number(name: str, value: object, *, minimum: int) -> int:
    """``value`` as an int. Raises InputError unless it is a whole number of at least ``minimum``.

    >>> whole_number("epochs", 0, minimum=1)
    Traceback (most recent call last):
        ...
    prunetune.errors.InputError: epochs is 0, but it must be a whole number of at least 1
    """
    number = operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    if number is None or number < minimum:
        raise InputError(f"{name} is {value!r}, but it must be a whole number of at least {minimum}")
    return number


def real_number(what: str, value: object) -> float:
    """``value`` as a float, NaN and infinity included. Raises InputError for what is no single number.

    A tensor or array with one element is a number; text and truth values, of numpy and torch too, are not.
    """
    item = getattr(value, "item", None)  # of tensors, arrays and numpy's numbers
    try:
        number = item() if callable(item) else value
    except (TypeError, ValueError, RuntimeError):  # of several elements
        number = None
    if not isinstance(number, bool | str | bytes) and hasattr(number, "__float__"):
        try:
            return float(number)
        except (TypeError, ValueError, RuntimeError):
            pass
        except OverflowError:  # a whole number beyond the range of floats
            return math.inf
    shown = repr(value)
    raise InputError(f"{what} must be one number, not {shown if len(shown) <= 80 else f'{shown[:80]}…'}")
