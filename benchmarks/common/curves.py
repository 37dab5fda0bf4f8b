"""Tabulated objectives: learning curves of real trainings, over a grid of the paper's five hyperparameters.

`benchmarks.optimizer_training` made them (`data/`). Between the points of the grid a curve is the multilinear
interpolation of the 32 around it, in the unit cube (learning rate, weight decay and batch size by their logarithms),
epoch by epoch. So an objective is deterministic and continuous, and its best score is one of the table's.

A network whose loss was not finite has diverged, from that epoch on. Between the points of the grid, those around that
have diverged count as much as guessing does; where they have half of the weight or more, the score is NaN.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunetune.backends import Float, Int, SearchSpace

Curve: TypeAlias = NDArray[np.float64]
"""A score for each epoch; NaN from the one on in which it diverged."""
Grid: TypeAlias = Mapping[str, tuple[float, ...]]

FOLDER: Final = Path(__file__).parent / "data"
UNITS: Final = 50_000
"""Scores are stored as whole numbers of these parts."""
DIVERGED: Final = 65_535
CHANCE: Final = 0.1
"""The accuracy of guessing one of ten classes."""
HALF: Final = 0.5

NAMES: Final = ("learning_rate", "lr_decay", "momentum", "weight_decay", "batch_size")
_LOG: Final = ("learning_rate", "weight_decay", "batch_size")

# The ranges of the space "paper-extra"; batches in proportion to these few images. A momentum of m makes steps
# 1 / (1 - m) times as long, so its points are closer to each other towards 1.
_PAPER: Final[Grid] = {
    "learning_rate": tuple(float(rate) for rate in np.geomspace(1e-5, 0.2, 9)),
    "lr_decay": (0.1, 0.4, 1.0),
    "momentum": (0.1, 0.5, 0.8, 0.93, 0.99),
    "weight_decay": tuple(float(decay) for decay in np.geomspace(1e-5, 2e-2, 4)),
}
GRIDS: Final[Mapping[str, Grid]] = {
    "digits": {**_PAPER, "batch_size": (8, 25, 80, 256)},
    "fashion-mnist": {**_PAPER, "batch_size": (16, 50, 160, 512)},
}


@dataclass(frozen=True, eq=False)
class Table:
    """An objective.

    Attributes
    ----------
    made
        With what it was made: data, split, networks, seeds, versions.
    """

    name: str
    grid: Grid
    curves: NDArray[np.float64]  # (*grid, epochs)
    made: Mapping[str, Any]

    @property
    def space(self) -> SearchSpace:
        """The hyperparameters' ranges: the ends of the grid."""
        return SearchSpace(
            {
                name: Int(round(points[0]), round(points[-1]), log=True)
                if name == "batch_size"
                else Float(points[0], points[-1], log=name in _LOG)
                for name, points in self.grid.items()
            }
        )

    @property
    def epochs(self) -> int:
        """Those of a full trial."""
        return int(self.curves.shape[-1])

    @functools.cached_property
    def best(self) -> float:
        """The highest score after the last epoch that there is."""
        return float(np.nanmax(self.curves[..., -1]))

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """The scores of these hyperparameters after each epoch."""
        scores, diverged = self._filled
        for name, points in self._places.items():
            place = _scale(name, params[name])
            left = min(max(int(np.searchsorted(points, place)) - 1, 0), len(points) - 2)
            share = (place - points[left]) / (points[left + 1] - points[left])
            scores, diverged = (part[left] * (1 - share) + part[left + 1] * share for part in (scores, diverged))
        return np.where(diverged < HALF, scores, np.nan)

    @functools.cached_property
    def _filled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores, guessing where it diverged; and whether it did, 0 or 1."""
        diverged = np.isnan(self.curves)
        return np.where(diverged, CHANCE, self.curves), diverged.astype(np.float64)

    @functools.cached_property
    def _places(self) -> Mapping[str, NDArray[np.float64]]:
        return {name: _scale(name, np.array(points)) for name, points in self.grid.items()}


def _scale(name: str, values: Any) -> Any:
    return np.log(values) if name in _LOG else values


@functools.cache
def load(name: str) -> Table:
    """The table of that name, of `GRIDS`."""
    with np.load(FOLDER / f"{name}.npz") as file:
        stored = file["curves"]
        grid = {each: tuple(file[each].tolist()) for each in NAMES}
        made = json.loads(str(file["made"]))
    return Table(name, grid, np.where(stored == DIVERGED, np.nan, stored / UNITS), made)
