"""What makes a trial on the proxy cheap besides the narrower network: smaller images, fewer epochs, fewer images.

A trial costs, as a share of a full training of the full network::

    step time ratio (width, depth, resolution) x epochs x data

How a cost that is asked for is split is decision 26: the proxy's width and depth are what ``Pruning`` says, then comes
the resolution, then the epochs, whose schedule is finished in what there are, and the training images last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from prunetune._utils.arguments import check_options
from prunetune._utils.checks import real_number
from prunetune._utils.options import Options
from prunetune.errors import InputError
from prunetune.registry import Registry

AXES: Final = ("resolution", "epochs", "data")
LEAST_RESOLUTION: Final = 0.5
LEAST_EPOCHS: Final = 0.2
LEAST_DATA: Final = 0.2
WORTHWHILE: Final = 0.8
"""Images of the least resolution must bring a step to this share of its time, or they stay as they are."""
TOLERANCE: Final = 1.02
"""A cost that is missed by less is met: step times are measured no better."""


@dataclass(frozen=True)
class Fidelity(Options):
    """Shares of what the full network gets: height and width of images, epochs, training images; above 0 and up to 1.

    With ``cost``, what a trial is to cost as a share of a full training of the full network, the other three are the
    least that it may be brought down to; see ``for_budget``.

    >>> Fidelity(epochs=0.5).of_epochs(9)
    5
    """

    resolution: float = 1.0
    epochs: float = 1.0
    data: float = 1.0
    cost: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "cost":
                continue
            share = real_number(f"fidelity.{field.name}", value)
            if not 0 < share <= 1:
                raise InputError(f"fidelity.{field.name} is {share:g}, but it must be above 0 and at most 1")
            object.__setattr__(self, field.name, share)

    @classmethod
    def for_budget(
        cls,
        cost: float,
        *,
        resolution: float = LEAST_RESOLUTION,
        epochs: float = LEAST_EPOCHS,
        data: float = LEAST_DATA,
    ) -> Self:
        """What brings a trial's cost down to ``cost``, split when the proxy's step has been measured, see ``split``.

        The others are the least shares that it may come to.
        """
        return cls(resolution, epochs, data, cost)

    def of_epochs(self, epochs: int) -> int:
        """How many epochs a trial has where the full network has so many; before ``cost`` is split, as many."""
        return epochs if self.cost is not None else max(1, math.floor(self.epochs * epochs + 0.5))

    def to_record(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return asdict(self)


FULL: Final = Fidelity()

fidelities: Registry[Fidelity] = Registry("fidelity")
fidelities.register("full", FULL)
fidelities.register("fast", Fidelity(resolution=0.5))
fidelities.register("faster", Fidelity(resolution=0.5, epochs=1 / 3))
fidelities.register("fastest", Fidelity(resolution=0.5, epochs=0.2, data=0.5))


def resolve_fidelity(fidelity: Fidelity | str) -> Fidelity:
    """A fidelity by its name, or the one that is given. Raises InputError."""
    if isinstance(fidelity, str):
        return fidelities[fidelity]
    check_options("fidelity", fidelity, Fidelity)
    return fidelity


def describe(fidelity: Fidelity) -> str:
    """In words, for lists.

    >>> describe(fidelities["faster"]), describe(Fidelity())
    ('resolution 0.5, epochs 0.333, data 1', 'resolution 1, epochs 1, data 1')
    >>> describe(Fidelity.for_budget(0.02))
    'cost 0.02 (at least resolution 0.5, epochs 0.2, data 0.2)'
    """
    shares = ", ".join(f"{axis} {getattr(fidelity, axis):.3g}" for axis in AXES)
    return shares if fidelity.cost is None else f"cost {fidelity.cost:.3g} (at least {shares})"


@dataclass(frozen=True)
class TrialCost:
    """What a trial costs, as shares of a full training of the full network."""

    step: float
    """Time of a training step of the proxy on images of the trial's resolution."""
    epochs: float
    data: float

    @property
    def total(self) -> float:
        """The whole trial's."""
        return self.step * self.epochs * self.data


def cost_of(fidelity: Fidelity, step: float, epochs: int) -> TrialCost:
    """The predicted cost of a trial, ``step`` being the step time ratio at its resolution, ``epochs`` the base's."""
    return TrialCost(step, fidelity.of_epochs(epochs) / epochs, fidelity.data)


def split(
    asked: Fidelity, step: Callable[[float], float], *, epochs: int, pixels: int, least_pixels: int
) -> tuple[Fidelity, TrialCost]:
    """The fidelity with which a trial costs ``asked.cost``, and what it costs. Decision 26 has the reasons.

    What the proxy does not save by itself is saved by resolution; the rest by epochs; what is left then by data. The
    step time is taken to be a power of the resolution between the least and the whole, and measured where it comes out.

    Parameters
    ----------
    step
        Gives the time of a training step of the proxy at a resolution, as a share of the full network's at the full.
    pixels, least_pixels
        Side of the full images, and of the smallest that the network runs on. Equal where images cannot be resized.

    Raises
    ------
    InputError
        Such a cost cannot be reached.
    """
    assert asked.cost is not None
    target = asked.cost
    resolution = _resolution(asked, step, target, pixels, least_pixels)
    ratio = step(resolution)
    left = target / ratio
    count = min(epochs, max(math.ceil(asked.epochs * epochs - 1e-9), math.floor(left * epochs + 1e-9)))
    data = min(1.0, max(asked.data, left * epochs / count))
    found = Fidelity(resolution, count / epochs, data)
    reached = cost_of(found, ratio, epochs)
    if reached.total > target * TOLERANCE:
        raise InputError(
            f"fidelity.cost is {target:.3g}, but a trial costs at least {reached.total:.3g} of a full training: "
            f"{reached.step:.3g} by the proxy's step at resolution {resolution:.3g}, x {reached.epochs:.3g} by epochs "
            f"x {reached.data:.3g} by data; take a smaller proxy (pruning.flops, pruning.speedup), or allow less of "
            "fidelity.resolution, fidelity.epochs or fidelity.data"
        )
    return found, reached


def _resolution(
    asked: Fidelity, step: Callable[[float], float], target: float, pixels: int, least_pixels: int
) -> float:
    """How small the images are to be: no smaller than the cost needs, and whole if small ones hardly save time."""
    floor = max(math.ceil(asked.resolution * pixels - 1e-9), least_pixels)
    whole = step(1.0)
    if target >= whole or floor >= pixels:
        return 1.0
    least = floor / pixels
    saved = step(least) / whole
    if saved > WORTHWHILE:
        return 1.0
    if target / whole <= saved:
        return least
    exponent = math.log(saved) / math.log(least)
    share = math.pow(target / whole, 1 / exponent)
    return max(floor, math.floor(share * pixels)) / pixels
