"""Ways to judge a configuration cheaply with the full network itself, each at a given share of a full training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prunetune.errors import InputError, unknown_name


@dataclass(frozen=True)
class Cheaper:
    """What of a full training is left: a schedule of so many epochs, stopped after so many, on a share of the data."""

    epochs: int
    stop_after: int | None = None
    data: float = 1.0

    def cost(self, epochs: int) -> float:
        """The share of a full training of so many epochs; evaluation is taken to cost as much an epoch as ever."""
        return (self.stop_after or self.epochs) / epochs * self.data


def _fewer_epochs(share: float, epochs: int) -> Cheaper:
    """A schedule that is finished in fewer epochs; what whole epochs cannot match is matched by the data."""
    whole = max(1, round(share * epochs))
    return Cheaper(whole, data=min(1.0, share * epochs / whole))


def _stopped_early(share: float, epochs: int) -> Cheaper:
    """The full schedule, of which only the beginning is trained: what a rung of Hyperband sees."""
    fewer = _fewer_epochs(share, epochs)
    return Cheaper(epochs, fewer.epochs, fewer.data)


def _less_data(share: float, epochs: int) -> Cheaper:
    """All epochs on fewer images, as many of each class."""
    return Cheaper(epochs, data=share)


def _one_epoch(share: float, epochs: int) -> Cheaper:
    """One epoch, whose schedule is finished in it, whatever it costs: "Is One Epoch All You Need"."""
    return Cheaper(1)


RIVALS: Final[dict[str, Callable[[float, int], Cheaper]]] = {
    "fewer-epochs": _fewer_epochs,
    "stopped-early": _stopped_early,
    "less-data": _less_data,
    "one-epoch": _one_epoch,
}
HAVE_THEIR_OWN_COST: Final = {"one-epoch"}


def at_cost(rival: str, share: float, epochs: int) -> Cheaper:
    """The rival of that name, at ``share`` of what a training of ``epochs`` epochs costs.

    >>> at_cost("fewer-epochs", 0.25, 10)
    Cheaper(epochs=2, stop_after=None, data=1.0)
    >>> at_cost("fewer-epochs", 0.05, 10)
    Cheaper(epochs=1, stop_after=None, data=0.5)
    """
    check_rival(rival)
    if not 0 < share <= 1:
        raise InputError(f"cost is {share:g}, but it must be above 0 and at most 1, a share of a full training")
    return RIVALS[rival](share, epochs)


def check_rival(name: str) -> None:
    """Raise InputError for a name that is no rival's."""
    if not isinstance(name, str):
        raise InputError(f"the rival must be a name; got {type(name).__name__}")
    if name not in RIVALS:
        raise unknown_name("rival", name, RIVALS)
