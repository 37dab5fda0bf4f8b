"""From trainings to the rows of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final, Literal

import numpy as np

from prunetune.comparison.settings import Way
from prunetune.comparison.trainings import Trained, key, top
from prunetune.errors import SearchError
from prunetune.stats.bootstrap import (
    Estimate,
    Scores,
    confirmed,
    mean_truth,
    over_seeds,
    rank_correlation,
    ranking,
)

Kind = Literal["ceiling", "proxy", "rival"]
RANDOM: Final = "random"


@dataclass(frozen=True)
class Row:
    """One way with one optimizer. Regrets are in the units of the score, costs in trainings of the full network."""

    name: str
    kind: Kind
    optimizer: str
    scorer: str | None
    transfer: str | None
    cost: float
    """Of a training of a configuration, the median of those that were complete both here and there."""
    search_cost: float
    """Of all trials of a search."""
    confirmed_cost: float | None
    """The same with the confirmations."""
    seconds: float
    """Of all trials of a search and its confirmations."""
    spearman: Estimate
    regret: Estimate
    """The best truth minus that of the way's first choice."""
    regret_confirmed: Estimate | None
    """The same of the best of its first choices by a training of the full network; None for that network itself."""
    lost: int
    """Trainings that failed or diverged."""


@dataclass(frozen=True)
class Searched:
    """What a way and an optimizer have chosen, by seed: trials and the first choices in order."""

    way: Way
    optimizer: str
    trials: tuple[Sequence[Trained], ...]
    choices: tuple[Sequence[Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Reference:
    """What the full network makes of configurations: ``truth``, and what it says with each seed that may choose."""

    places: Mapping[str, int]
    """By ``key``."""
    points: Sequence[Mapping[str, Any]]
    trained: Sequence[Scores]
    """By seed that says the truth."""
    choosers: Sequence[Mapping[str, Trained]]
    """By seed that chooses, by ``key``."""
    common: int
    """So many configurations, the first ones, every way has judged."""

    @property
    def truth(self) -> Scores:
        """Of all configurations that any way may choose."""
        return mean_truth(np.array(self.trained))

    @property
    def seconds(self) -> float:
        """Of a complete training of the full network, on average."""
        found = [each.seconds for trained in self.choosers for each in trained.values() if each.complete]
        if not found:
            raise SearchError("no training of the full network came to a score")
        return fmean(found)

    def chooser(self, seed: int) -> Scores:
        """What the full network says with this seed of the configurations that every way has judged."""
        return np.array([self.choosers[seed][key(point)].score for point in self.points[: self.common]])


def judged(way: Way, trained: Sequence[Sequence[Trained]], reference: Reference, confirm: int) -> Row:
    """The row of a way that has judged the common configurations, by seed: the optimizer is random search."""
    scores = np.array([[each.score for each in one] for one in trained])
    truth, best = reference.truth[: reference.common], reference.truth.max()
    plain = [float(best - truth[ranking(row)[0]]) for row in scores]
    picks = [confirmed(row, reference.chooser(seed), confirm) for seed, row in enumerate(scores)]
    first = [[reference.points[place] for place in ranking(row)[:confirm]] for row in scores]
    is_base = way.kind == "base"
    return Row(
        **_named(way, RANDOM),
        **_spent(trained, first, reference, is_base=is_base),
        cost=1.0 if is_base else cost_of(trained, reference),
        spearman=rank_correlation(scores, truth),
        regret=over_seeds(plain),
        regret_confirmed=None if is_base else over_seeds([float(best - truth[pick]) for pick in picks]),
    )


def searched(found: Searched, row: Row, reference: Reference) -> Row:
    """The row of a search, on a way whose row as random search is ``row``."""
    truth, best = reference.truth, reference.truth.max()
    plain, chosen = [], []
    for seed, choices in enumerate(found.choices):
        places = [reference.places[key(params)] for params in choices]
        said = [reference.choosers[seed][key(params)].score for params in choices]
        plain.append(float(best - truth[places[0]]))
        chosen.append(float(best - truth[places[int(np.argmax(said))]]))
    is_base = found.way.kind == "base"
    return Row(
        **_named(found.way, found.optimizer),
        **_spent(found.trials, found.choices, reference, is_base=is_base),
        cost=row.cost,
        spearman=row.spearman,
        regret=over_seeds(plain),
        regret_confirmed=None if is_base else over_seeds(chosen),
    )


def first_choices(trials: Sequence[Sequence[Trained]], count: int) -> tuple[list[dict[str, Any]], ...]:
    """By seed, the best few of a search's trials."""
    return tuple(top(each, count) for each in trials)


def cost_of(trained: Sequence[Sequence[Trained]], reference: Reference) -> float:
    """Seconds of a training over the full network's of the same configuration and seed: the median."""
    ratios = [
        each.seconds / full.seconds
        for seed, one in enumerate(trained)
        for each in one
        if each.complete and (full := reference.choosers[seed][key(each.params)]).complete
    ]
    if not ratios:
        raise SearchError("no configuration came to a score both on the full network and in a way that is compared")
    return median(ratios)


def random_pick(reference: Reference) -> float:
    """The regret of a choice without looking, among the common configurations."""
    return float(reference.truth.max() - reference.truth[: reference.common].mean())


def _named(way: Way, optimizer: str) -> dict[str, Any]:
    pruning = way.pruning
    return {
        "name": way.name,
        "kind": "ceiling" if way.kind == "base" else way.kind,
        "optimizer": optimizer,
        "scorer": None if pruning is None else pruning.scorer,
        "transfer": None if pruning is None else pruning.transfer,
    }


def _spent(
    trials: Sequence[Sequence[Trained]],
    choices: Sequence[Sequence[Mapping[str, Any]]],
    reference: Reference,
    *,
    is_base: bool,
) -> dict[str, Any]:
    """Seconds and costs, on average over the seeds; how many trainings were lost."""
    searching = fmean(_total(one) for one in trials)
    confirming = fmean(
        _total([reference.choosers[seed][key(params)] for params in first]) for seed, first in enumerate(choices)
    )
    unit = reference.seconds
    return {
        "search_cost": searching / unit,
        "confirmed_cost": None if is_base else (searching + confirming) / unit,
        "seconds": searching if is_base else searching + confirming,
        "lost": sum(not each.complete for one in trials for each in one),
    }


def _total(trained: Sequence[Trained]) -> float:
    return sum(each.seconds for each in trained if np.isfinite(each.seconds))
