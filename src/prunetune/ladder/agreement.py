"""What two rungs say about each other: does the lower one rank as the upper one does?

Those that went up were chosen by the lower rung, so among them alone the two agree little however well it ranks. A few
controls, spread over the ranks of those that did not go up, go up with them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from prunetune._utils.checks import Direction
from prunetune.ladder.promotion import Id, RungResult
from prunetune.ladder.rung import SHARES, Rung, listed
from prunetune.stats.bootstrap import Estimate, rank_correlation

Decision: TypeAlias = Literal["unknown", "fine", "widen", "leave"]

GOOD: Final = 0.4
EXPECTED: Final = 0.73
"""What short trainings of a narrow network had with full ones (decision 37). A rung is called bad only where the whole
interval of its correlation is below: with a dozen configurations a low one is often chance, and each rung that is
widened in vain costs most of a full training."""
FEWEST: Final = 6
"""Fewer configurations say nothing about a rank correlation."""


@dataclass(frozen=True)
class Agreement:
    """How the scores of a rung and of the one above it agree, and what follows."""

    configurations: int
    controls: int
    spearman: Estimate
    decision: Decision
    """``widen``: the upper rung lets twice as many go on; ``leave``: the axes between the two are not trusted. After
    both the ranks of the lower rung are ignored."""
    sentence: str


def choose_controls(order: Sequence[Id], went_up: Collection[Id], count: int) -> list[Id]:
    """Those of the others that go up as controls: the middles of ``count`` equal parts of their ranks.

    ``order`` is ``ranked``'s, the best first.

    >>> choose_controls("abcdefgh", "ab", 3)
    ['d', 'f', 'h']
    """
    others = [id for id in order if id not in set(went_up)]
    count = min(count, len(others))
    return [others[(2 * part + 1) * len(others) // (2 * count)] for part in range(count)]


def axes_between(lower: Rung, upper: Rung) -> tuple[str, ...]:
    """In what two rungs differ: of width, epochs, resolution and data."""
    return tuple(name for name in ("width", *SHARES) if getattr(lower, name) != getattr(upper, name))


def agreement(
    lower: Iterable[RungResult[Id]],
    upper: Iterable[RungResult[Id]],
    *,
    controls: Collection[Id],
    axes: Sequence[str],
    direction: Direction,
    widened: bool = False,
) -> Agreement:
    """The rank correlation between two rungs of all that were trained on both, and the decision by it.

    A training that diverged on one of them is its worst; those that failed say nothing. ``widened``: an earlier rung of
    this search agreed badly, too.
    """
    below, above = _scores(lower, direction), _scores(upper, direction)
    both = [id for id in below if id in above]
    watched = len(set(both) & set(controls))
    of_them = "one of them a control" if watched == 1 else f"{watched} of them controls"
    if len(both) < FEWEST or not watched:
        why = f"{len(both)} configurations on both rungs, {of_them}, are too few to say how these agree."
        return Agreement(len(both), watched, Estimate(None), "unknown", why)
    judged, truth = (np.array([scores[id] for id in both]) for scores in (below, above))
    spearman = rank_correlation(judged[None], truth)
    if spearman.mean is None:
        why = "All scores of one rung are the same, so nothing can be said about how the two agree."
        return Agreement(len(both), watched, spearman, "unknown", why)
    assert spearman.high is not None
    bad: Decision = "leave" if widened else "widen"
    decision: Decision = "fine" if spearman.mean >= GOOD else bad if spearman.high < EXPECTED else "unknown"
    found = (
        f"The rung ranks {len(both)} configurations, {of_them}, as the one above it does with a "
        f"Spearman correlation of {spearman.mean:.2f} [{spearman.low:.2f}, {spearman.high:.2f}] (95 %)"
    )
    less = listed([f"less {axis}" for axis in axes])
    weak = spearman.low is not None and spearman.low <= 0
    follows = {
        "fine": "; so few may agree by chance." if weak else ".",
        "unknown": f", below {GOOD}, which may be chance.",
        "widen": f", below {GOOD}: its ranks are ignored from here on, and twice as many go on from the next "
        "rung, as far as the budget allows it.",
        "leave": f", again below {GOOD}: its ranks are ignored from here on; {less} cannot be trusted here, and a "
        "search without it is the better choice.",
    }
    return Agreement(len(both), watched, spearman, decision, found + follows[decision])


def _scores(results: Iterable[RungResult[Id]], direction: Direction) -> dict[Id, float]:
    """The higher the better; those that diverged have the lowest."""
    sign = 1.0 if direction == "maximize" else -1.0
    found = {}
    for result in results:
        if result.may_go_on and result.score is not None:
            found[result.id] = sign * result.score
        elif result.outcome in ("complete", "diverged"):
            found[result.id] = -math.inf
    return found
