"""What a training on each rung costs, as a share of a full training of the full network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from prunetune._utils.checks import real_number, whole_number
from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder, Rung, fraction

FULL = (1.0, 1.0)


@dataclass(frozen=True)
class Costs:
    """Step times that were measured, as shares of the full network's, by width and resolution.

    A training costs: its step's share x whole epochs / epochs of the full network x its share of the data, and what
    every trial takes besides. A full training of the full network costs 1.

    >>> costs = Costs({(1 / 4, 1.0): 1 / 7}, epochs=9, trial=0.001)
    >>> round(costs.of(Rung(width=1 / 4, epochs=1 / 3)), 4)  # 1/7 x 3/9 + 0.001
    0.0486
    """

    steps: Mapping[tuple[float | None, float], float]
    """(width, resolution) → share; the width None is the proxy of the run's ``pruning``."""
    epochs: int
    """Of the full network."""
    trial: float = 0.0
    """What a trial takes besides its training, storage above all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole_number("epochs", self.epochs, minimum=1))
        steps = {FULL: 1.0}
        for at, value in self.steps.items():
            ratio = real_number(f"the step time {_where(*at)}", value)
            if not (0 < ratio < math.inf) or (at == FULL and ratio != 1):
                need = "1, since it is what all are shares of" if at == FULL else "a number above 0"
                raise InputError(f"the step time {_where(*at)} is {ratio:g}, but it must be {need}")
            steps[at] = ratio  # type: ignore[index]  # at FULL it is the same
        object.__setattr__(self, "steps", steps)

    def step(self, width: float | None, resolution: float = 1.0) -> float:
        """The share of a step; between two measured widths of a resolution on the power law through both.

        Raises
        ------
        InputError
            Nobody has measured it, nor a narrower and a wider network at that resolution.
        """
        if (width, resolution) in self.steps:
            return self.steps[width, resolution]
        measured = sorted((w, ratio) for (w, r), ratio in self.steps.items() if r == resolution and w is not None)
        for (narrow, low), (wide, high) in itertools.pairwise(measured):
            if width is not None and narrow < width < wide:
                along = math.log(width / narrow) / math.log(wide / narrow)
                return low * math.pow(high / low, along)
        known = ", ".join(_where(*at) for at in self.steps)
        raise InputError(f"what a step {_where(width, resolution)} costs has not been measured; measured were: {known}")

    def of(self, rung: Rung) -> float:
        """What one training on ``rung`` costs."""
        return self.of_training(rung) + (0.0 if rung.is_full else self.trial)

    def of_training(self, rung: Rung) -> float:
        """The same without what is no training."""
        return self.step(rung.width, rung.resolution) * rung.of_epochs(self.epochs) / self.epochs * rung.data

    def total(self, ladder: Ladder) -> float:
        """What all trainings on all rungs cost."""
        return math.fsum(n * self.of(rung) for n, rung in zip(ladder.entrants, ladder.rungs, strict=True))

    def to_record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        steps = [{"width": w, "resolution": r, "ratio": ratio} for (w, r), ratio in self.steps.items()]
        return {"epochs": self.epochs, "steps": steps, "trial": self.trial}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """What ``to_record`` wrote."""
        steps = {(step["width"], step["resolution"]): step["ratio"] for step in record["steps"]}
        return cls(steps, record["epochs"], record.get("trial", 0.0))


def _where(width: float | None, resolution: float) -> str:
    network = "of the proxy" if width is None else f"at {fraction(width)} of the width"
    return network if resolution == 1 else f"{network} and {fraction(resolution)} of the resolution"
