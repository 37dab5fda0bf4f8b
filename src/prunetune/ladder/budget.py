"""What a search may cost: full trainings of the full network, or time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from prunetune._utils.checks import real_number
from prunetune.errors import InputError

UNITS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_NUMBER: Final = r"(\d+(?:\.\d*)?|\.\d+)"
_TIME: Final = re.compile("".join(rf"(?:{_NUMBER}\s*{unit}\s*)?" for unit in UNITS), re.IGNORECASE)
HOW: Final = "write 3 or 2.5 for full trainings of the full network, '2h', '90m', '1h30m' or '45s' for time"


@dataclass(frozen=True)
class SearchBudget:
    """What all trainings of a search may cost, the winner's included; one of the two is None, see ``read_budget``."""

    trainings: float | None = None
    """Full trainings of the full network."""
    seconds: float | None = None

    def in_trainings(self, seconds: float) -> float:
        """Full trainings of the full network that it pays for, if one takes ``seconds``.

        >>> SearchBudget(seconds=5400).in_trainings(1800), SearchBudget(trainings=2.5).in_trainings(1800)
        (3.0, 2.5)
        """
        return self.trainings if self.trainings is not None else (self.seconds or 0.0) / seconds


def read_budget(given: object) -> SearchBudget:
    """The budget that somebody wrote: a number, or text with a number or a time.

    >>> read_budget(2.5), read_budget("1h30m")
    (SearchBudget(trainings=2.5, seconds=None), SearchBudget(trainings=None, seconds=5400.0))

    Raises
    ------
    InputError
        It is neither, or not above 0.
    """
    if not isinstance(given, str):
        return SearchBudget(trainings=_positive(real_number("budget", given), given))
    text = given.strip()
    if re.fullmatch(_NUMBER, text):
        return SearchBudget(trainings=_positive(float(text), given))
    found = _TIME.fullmatch(text)
    if not text or not found:
        raise InputError(f"budget is {given!r}, which is no number and no time: {HOW}")
    parts = zip(found.groups(), UNITS.values(), strict=True)
    return SearchBudget(seconds=_positive(math.fsum(float(n) * unit for n, unit in parts if n), given))


def _positive(number: float, given: object) -> float:
    if not 0 < number < math.inf:
        raise InputError(f"budget is {given!r}, but it must be above 0: {HOW}")
    return number
