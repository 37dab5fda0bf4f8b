"""A search as a list of rungs: cheap trainings of many configurations first, the full network's at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Final, Self

from prunetune._utils.checks import real_number, whole_number
from prunetune.errors import InputError, unknown_name

SHARES: Final = ("epochs", "resolution", "data")
LARGEST_DENOMINATOR: Final = 16


@dataclass(frozen=True)
class Rung:
    """One way of training: which network, with how much of everything; how many configurations, how many go on.

    Shares of the full network's training are above 0 and up to 1. The schedule of the learning rate is finished in the
    epochs that the rung has.

    Parameters
    ----------
    width, epochs, resolution, data
        Shares of the channels of every group, the epochs, the height and width of the images, and the training data.
        ``width=None`` is the proxy of the run's ``pruning``.
    trials
        How many configurations the optimizer proposes here. Only the first rung has some.
    keep
        How many go on to the next rung, the best first. The last rung has none.
    controls
        How many of the others also go on, to show how well this rung ranks.

    Example
    -------
    >>> Rung(width=1 / 4, epochs=1 / 9, trials=64, keep=16).of_epochs(9)
    1
    """

    width: float | None = 1.0
    """The share of every group's channels that stays; 1 is the full network, None the proxy of the run's `pruning`."""
    epochs: float = 1.0
    resolution: float = 1.0
    """Height and width of the images."""
    data: float = 1.0
    """Of the training data."""
    trials: int = 0
    """Configurations that the optimizer proposes on this rung; later rungs get those that go up to them besides."""
    keep: int | None = None
    """How many go on to the next rung, the best first; the last rung has none."""
    controls: int = 0
    """How many of the others go up too, to show how well this rung ranks; see ``agreement``."""

    def __post_init__(self) -> None:
        for name in SHARES if self.width is None else ("width", *SHARES):
            object.__setattr__(self, name, _share(name, getattr(self, name)))
        for name in ("trials", "controls"):
            object.__setattr__(self, name, whole_number(f"rung.{name}", getattr(self, name), minimum=0))
        if self.keep is not None:
            object.__setattr__(self, "keep", whole_number("rung.keep", self.keep, minimum=1))

    @property
    def is_full(self) -> bool:
        """Whether it is a full training of the full network."""
        return self.width == self.epochs == self.resolution == self.data == 1

    @property
    def kind(self) -> tuple[float | None, float, float, float]:
        """What a training on it is, without the numbers: width, epochs, resolution, data."""
        return self.width, self.epochs, self.resolution, self.data

    def of_epochs(self, epochs: int) -> int:
        """Epochs of a training on this rung, given the full network's."""
        return max(1, math.floor(self.epochs * epochs + 0.5))

    def describe(self) -> str:
        """What a training on it is, in words.

        >>> Rung(width=1 / 4, epochs=1 / 9).describe(), Rung(width=None).describe(), Rung().describe()
        ('1/4 of the width, 1/9 of the epochs', 'the proxy', 'the full network')
        """
        if self.is_full:
            return "the full network"
        shares = {"width": self.width, **{name: getattr(self, name) for name in SHARES}}
        words = [
            f"{fraction(share)} of the {name}" for name, share in shares.items() if share is not None and share < 1
        ]
        return ", ".join(words if self.width is not None else ["the proxy", *words])


@dataclass(frozen=True, init=False)
class Ladder:
    """Rungs from the cheapest to the last, a full training of the full network, whose winner is the result.

    For ``prunetune.tune(ladder=…)``. Decision 37 says which rungs the default ladder has, and why.

    Parameters
    ----------
    rungs
        The first has ``trials``, all but the last say how many they ``keep``, and the last is ``Rung()``.

    Example
    -------
    >>> Ladder(Rung(width=1 / 4, epochs=1 / 3, trials=32, keep=4), Rung(width=1 / 4, keep=1), Rung()).entrants
    (32, 4, 1)

    Raises
    ------
    InputError
        The rungs do not go together.
    """

    rungs: tuple[Rung, ...]

    def __init__(self, *rungs: Rung) -> None:
        for rung in rungs:
            if not isinstance(rung, Rung):
                raise InputError(f"a ladder is made of rungs, and {rung!r} is none: write Ladder(Rung(…), Rung())")
        object.__setattr__(self, "rungs", rungs)
        self._check()

    @property
    def entrants(self) -> tuple[int, ...]:
        """How many configurations are trained on each rung."""
        up = [0, *(((rung.keep or 0) + rung.controls) for rung in self.rungs)]
        return tuple(coming + rung.trials for coming, rung in zip(up, self.rungs, strict=False))

    def _check(self) -> None:
        if not self.rungs or not self.rungs[-1].is_full:
            last = f"it is {self.rungs[-1].describe()}" if self.rungs else "there is none"
            raise InputError(
                f"the last rung of a ladder must be a full training of the full network, but {last}: end with Rung()"
            )
        if not self.rungs[0].trials:
            raise InputError(
                "rung 1 of the ladder has no trials, so nothing would be trained on it: give it trials=64, say"
            )
        *before, last_rung = self.rungs
        if last_rung.keep is not None or last_rung.controls:
            raise InputError("nobody goes on from the last rung of a ladder: leave out its keep and its controls")
        for place, (rung, there) in enumerate(zip(before, self.entrants, strict=False), 1):
            if rung.is_full:
                raise InputError(
                    f"rung {place} of the ladder is a full training of the full network already; make it the last"
                )
            if rung.keep is None:
                raise InputError(f"rung {place} of the ladder does not say how many go on: give it keep=4, say")
            if rung.keep + rung.controls > there:
                controls = f" and {rung.controls} controls" if rung.controls else ""
                raise InputError(
                    f"rung {place} of the ladder has keep={rung.keep}{controls}, but only {there} are on it: "
                    "lower its keep, or train more on it"
                )

    def to_record(self) -> list[dict[str, Any]]:
        """All rungs as plain JSON values."""
        return [asdict(rung) for rung in self.rungs]

    @classmethod
    def from_record(cls, record: object) -> Self:
        """The ladder that ``to_record`` or a configuration wrote; what is missing has its default.

        Raises
        ------
        InputError
            It is something else; the sentence names the rung and the key.
        """
        if not isinstance(record, list | tuple):
            raise InputError(f"a ladder is a list of rungs, not {record!r}")
        return cls(*(_read_rung(f"rung {place} of the ladder", rung) for place, rung in enumerate(record, 1)))


def check_one(name: str, rung: object) -> None:
    """Raise InputError unless ``rung`` is one that says what a training is, and not how many there are."""
    if not isinstance(rung, Rung):
        raise InputError(f"{name} is {rung!r}, but it must be a prunetune.Rung, such as Rung(width=1/4, epochs=1/3)")
    if rung.trials or rung.keep is not None or rung.controls:
        raise InputError(f"{name} has trials, keep or controls, which are of a ladder; leave them out")


def _read_rung(where: str, record: object) -> Rung:
    if not isinstance(record, Mapping):
        raise InputError(f"{where} must be a table of width, epochs, trials, keep, …, not {record!r}")
    known = [field.name for field in fields(Rung)]
    try:
        for key in record:
            if key not in known:
                raise unknown_name("key", str(key), known)
        return Rung(**record)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _share(name: str, value: object) -> float:
    share = real_number(f"rung.{name}", value)
    if not 0 < share <= 1:
        raise InputError(f"rung.{name} is {share:g}, but it must be above 0 and at most 1")
    return share


def fraction(share: float) -> str:
    """A share as people say it.

    >>> fraction(0.25), fraction(1 / 9), fraction(0.111), fraction(0.137)
    ('1/4', '1/9', '1/9', '0.137')
    """
    near = Fraction(share).limit_denominator(LARGEST_DENOMINATOR)
    return str(near) if near and abs(near - Fraction(share)) < 5e-4 else f"{share:.3g}"


def listed(words: Sequence[str]) -> str:
    """Words with commas and an "and".

    >>> listed(["1/2", "1/4", "1/8"])
    '1/2, 1/4 and 1/8'
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
