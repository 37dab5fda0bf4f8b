"""Who goes on from a rung: the best by their rank there and half of their rank on the rung below."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from scipy.stats import rankdata

from prunetune._utils.checks import Direction

Id = TypeVar("Id", bound=Hashable)
RungOutcome: TypeAlias = Literal["complete", "pruned", "diverged", "failed"]

BELOW = 0.5
"""The weight of the rank below: short and narrow trainings err on different configurations, so both ranks count."""


@dataclass(frozen=True)
class RungResult(Generic[Id]):
    """What became of one configuration on a rung."""

    id: Id
    """The configuration's, the same on all rungs."""
    score: float | None
    """The last that was reported; None if there is none."""
    outcome: RungOutcome = "complete"

    @property
    def may_go_on(self) -> bool:
        """Whether it has a score to be ranked by; a training that a trial pruner stopped has its last one."""
        finished = self.outcome in ("complete", "pruned")
        return finished and self.score is not None and math.isfinite(self.score)


def ranked(here: Sequence[RungResult[Id]], below: Iterable[RungResult[Id]] = (), *, direction: Direction) -> list[Id]:
    """All that may go on, best first.

    The rank is that among them here, plus half of their rank among them on the rung below. Equal scores have equal
    ranks; equal sums go by the rank below, then by the order of ``here``. One that is new on this rung counts as if it
    had come as high below as it is here. On the last rung leave ``below`` out: the winner is the best there.

    >>> here = [RungResult("a", 0.7), RungResult("b", 0.8), RungResult("c", None, "diverged")]
    >>> ranked(here, direction="maximize")
    ['b', 'a']
    """
    candidates = [result for result in here if result.may_go_on]
    standing = _standing(candidates, direction)
    there = {result.id for result in candidates}
    before = _standing([result for result in below if result.may_go_on and result.id in there], direction)
    below_or_here = standing | before
    by = {id: (round(rank + BELOW * below_or_here[id], 12), below_or_here[id]) for id, rank in standing.items()}
    return sorted(by, key=by.__getitem__)  # stable: of equal ones the first of `here`


def _standing(results: Sequence[RungResult[Id]], direction: Direction) -> dict[Id, float]:
    """The rank of each among ``results`` as a share of their number, the best next to 0."""
    sign = -1.0 if direction == "maximize" else 1.0
    if not results:
        return {}
    ranks = rankdata([sign * (result.score or 0.0) for result in results])
    return {result.id: float(rank - 0.5) / len(results) for result, rank in zip(results, ranks, strict=True)}
