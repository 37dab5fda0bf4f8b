"""Tables of real trainings: what every way to train makes of each configuration, and what it costs.

They are made of rows that are in ``benchmarks/results``; nothing is trained. Those of the perceptrons are of an
experiment that is gone, ``benchmarks.fidelity``, which commit 6578492 was the last to have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.transfer.cases import SCALES
from benchmarks.transfer.runs import TRUTH_SEEDS, Row, read

Scores: TypeAlias = NDArray[np.float64]

RESULTS: Final = Path(__file__).parents[1] / "results"
FULL: Final = "full"
"""The way that trains the full network to its end, with a seed that may choose."""
WORST: Final = -1.0
"""The score of a training that diverged."""
WAYS: Final = {
    "base": FULL,
    "uniform": "quarter width",
    "uniform, identity": "quarter width, rates as they are",
    "fewer epochs": "fewer epochs",
    "one epoch": "first epoch",
    "stopped early": "stopped early",
    "less data": "less data",
}
"""Arms of `benchmarks.transfer` → ways."""
NARROW: Final = ("quarter width", "quarter width, rates as they are")


@dataclass(frozen=True, eq=False)
class Table:
    """The trainings of N configurations.

    Attributes
    ----------
    scores
        By way: a score (N,) for each configuration.
    cost
        By way: what a training costs on average, in full trainings.
    truth
        What is wanted (N,): scores of full trainings with seeds that choose nothing.
    """

    name: str
    scores: Mapping[str, Scores]
    cost: Mapping[str, float]
    truth: Scores

    def at_cost(self, narrow: float) -> Table:
        """The same scores, as if a quarter of the width cost so much."""
        cost = {way: narrow if way in NARROW else each for way, each in self.cost.items()}
        return replace(self, name=f"{self.name}, a quarter at {narrow:g}", cost=cost)

    def resampled(self, places: NDArray[np.intp]) -> Table:
        """The same for the configurations at these places."""
        return replace(self, scores={way: each[places] for way, each in self.scores.items()}, truth=self.truth[places])


def of_transfer(base: str, rows: Iterable[Row]) -> Table:
    """The table of a base of `benchmarks.transfer`, from its rows."""
    own = [row for row in rows if row["base"] == base]

    def column(arm: str, seed: int, what: str) -> Scores:
        found = {int(r["configuration"]): float(r[what]) for r in own if r["arm"] == arm and int(r["seed"]) == seed}
        return np.array([found[number] for number in sorted(found)])

    seconds = {way: column(arm, 0, "cpu_seconds").mean() for arm, way in WAYS.items()}
    return Table(
        base,
        {way: column(arm, 0, "val") for arm, way in WAYS.items()},
        {way: float(each / seconds[FULL]) for way, each in seconds.items()},
        np.mean([column("base", seed, "test") for seed in TRUTH_SEEDS], axis=0),
    )


def of_perceptrons(path: Path) -> Table:
    """The table of a file of trained perceptrons; a training costs its epochs, of so much of the data."""
    found = json.loads(path.read_text(encoding="utf-8"))
    trainings, epochs = found["trainings"], found["scale"]["epochs"]

    def column(way: str, epoch: int) -> Scores:
        curves = (each["curve"][epoch - 1] for each in trainings[way])
        return np.array([WORST if score is None else score for score in curves])

    scores, cost = {FULL: column("full", epochs)}, {FULL: 1.0}
    for rung in (1, 3, 9):
        scores[f"{rung} of {epochs} epochs"] = column(f"{rung} of {epochs} epochs, re-annealed", rung)
        cost[f"{rung} of {epochs} epochs"] = rung / epochs
    scores["first epoch"], cost["first epoch"] = column("full", 1), 1 / epochs
    scores["stopped early"], cost["stopped early"] = column("full", 9), 9 / epochs
    scores["less data"], cost["less data"] = column("a third of the data", epochs), 1 / 3
    return Table(f"{found['network']}, seed {found['seed']}", scores, cost, column("full, other seed", epochs))


def load() -> list[Table]:
    """All tables that there are; those with a narrow network also as if that cost what it costs on larger ones."""
    rows = read(RESULTS / "transfer.csv")
    measured = [of_transfer(base.model, rows) for base in SCALES["cpu"].bases]
    return [
        *measured,
        *(table.at_cost(0.07) for table in measured),
        *(of_perceptrons(RESULTS / f"ladders-perceptron-{seed}.json") for seed in (0, 1)),
    ]
