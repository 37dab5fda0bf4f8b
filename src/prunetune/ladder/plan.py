"""A plan: a ladder with the price of every rung and the reasons for its shape, and what becomes of it on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from prunetune.errors import InputError
from prunetune.ladder.rung import Ladder, Rung

PRIOR: Final = 0.1
"""Full trainings for which the predicted pace counts: the first few trainings of a run say little about the others."""
TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Plan:
    """What is going to be trained, what it costs, and why. All costs are in full trainings of the full network."""

    ladder: Ladder
    prices: tuple[float, ...]
    """Of one training on each rung."""
    reasons: tuple[str, ...] = ()
    """Sentences."""

    @property
    def spending(self) -> tuple[float, ...]:
        """What each rung costs."""
        return tuple(n * price for n, price in zip(self.ladder.entrants, self.prices, strict=True))

    @property
    def total(self) -> float:
        """What all of it costs."""
        return math.fsum(self.spending)

    def __str__(self) -> str:
        rungs = zip(self.ladder.entrants, self.ladder.rungs, strict=True)
        return " → ".join(f"{n} × {rung.describe()}" for n, rung in rungs) + f": {self.total:.3g} full trainings"

    def to_record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        told = {"networks": [rung.describe() for rung in self.ladder.rungs], "entrants": [*self.ladder.entrants]}
        plain = {"ladder": self.ladder.to_record(), "prices": [*self.prices], "reasons": [*self.reasons]}
        return {**plain, **told, "total": self.total}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """What ``to_record`` wrote. Raises InputError if its ladder is none."""
        return cls(Ladder.from_record(record["ladder"]), tuple(record["prices"]), tuple(record["reasons"]))

    def shrunk(self, at: int, trained: int = 0, *, spent: float, left: float) -> Plan:
        """The plan with less of what is still to come, so that it costs no more than ``left``.

        The rungs that are left shrink in proportion, rounded, so that the larger numbers are the first to fall; one on
        which nobody would be dropped any more is left out. What was trained stays, and the last training of the full
        network stays too, even where nothing is left for it. Costs to come are predicted by the pace so far, see
        ``pace``. Call it on the plan as it was made, and it may take back what an earlier call has shrunk.

        Parameters
        ----------
        at, trained
            The place of the rung that is being trained, and how many of its configurations have been.
        spent, left
            Since the search began, and until it must end, in full trainings as predicted.
        """
        pace = self.pace(at, trained, spent)
        affordable = (left + TOLERANCE) / pace + trained * self.prices[at]
        if math.fsum(self.spending[at:]) <= affordable:
            return self
        entrants = self.ladder.entrants
        for share in sorted({0.0, *((m - 0.5) / n for n in entrants[at:] for m in range(1, n + 1))}, reverse=True):
            counts = self._counts(share, at, trained)
            enough = math.fsum(n * self.prices[place] for place, n in counts.items()) <= affordable
            if enough:
                break
        now = " → ".join(str(counts[place]) for place in sorted(counts))
        before = " → ".join(map(str, entrants[at:]))
        why = f"The plan shrank from {before} to {now}, since {left:.3g} full trainings were left"
        why += f" at {pace:.2f} times the predicted time." if abs(pace - 1) > 0.05 else "."
        why += "" if enough else " The training of the full network is kept, even if there is no time for it."
        return self._with_counts(counts, at, why)

    def pace(self, at: int, trained: int, spent: float) -> float:
        """How much longer trainings take than predicted; 1 before the first."""
        done = [*self.ladder.entrants[:at], trained]
        predicted = math.fsum(n * price for n, price in zip(done, self.prices, strict=False))
        return (spent + PRIOR) / (predicted + PRIOR)

    def widened(self, at: int, *, left: float = math.inf) -> Plan:
        """The plan in which rung ``at`` lets twice as many go on, or as many more as ``left`` pays for.

        ``left`` is for the rungs behind it, in full trainings.
        """
        rung = self.ladder.rungs[at]
        if rung.keep is None:
            raise InputError("nobody goes on from the last rung of a ladder, so it cannot be widened")
        needed = math.fsum(self.spending[at + 1 :])
        more = min(rung.keep, self.ladder.entrants[at] - rung.keep - rung.controls)
        more = max(0, more if left == math.inf else min(more, math.floor((left - needed) / self.prices[at + 1])))
        if not more:
            return self
        rungs = [*self.ladder.rungs]
        rungs[at] = replace(rung, keep=rung.keep + more)
        why = f"{rung.keep + more} instead of {rung.keep} go on from rung {at + 1}, since it ranks badly."
        return Plan(Ladder(*rungs), self.prices, (*self.reasons, why))

    def _counts(self, share: float, at: int, trained: int) -> dict[int, int]:
        """By place, how many are trained on the rungs from ``at`` on, without those on which nobody is dropped."""
        last = len(self.prices) - 1
        entrants = [math.floor(share * n + 0.5 + TOLERANCE) for n in self.ladder.entrants]
        entrants[at] = max(entrants[at], trained)
        counts = {last: max(1, entrants[last])}
        for place in range(last - 1, at - 1, -1):
            above = min(counts)
            if entrants[place] > self._coming(above, counts[above]) or (place == at and trained):
                counts[place] = max(1, entrants[place])
        return counts

    def _coming(self, place: int, count: int) -> int:
        """How many of ``count`` on a rung come from below: those first, new proposals in the room that is left."""
        return min(count, self.ladder.entrants[place] - self.ladder.rungs[place].trials)

    def _with_counts(self, counts: Mapping[int, int], at: int, why: str) -> Plan:
        places = [*range(at), *sorted(counts)]
        counts = {**dict(enumerate(self.ladder.entrants[:at])), **counts}
        rungs: list[Rung] = []
        coming = 0
        for place, above in zip(places, [*places[1:], None], strict=True):
            rung = self.ladder.rungs[place]
            proposed = min(rung.trials, counts[place] - coming) if rungs else counts[place]
            here, coming, keep = coming + proposed, 0, rung.keep
            if above is not None:
                coming = min(here, self._coming(above, counts[above]))
                keep = min(rung.keep or 0, coming) if above == place + 1 else coming
            rungs.append(replace(rung, trials=proposed, keep=keep, controls=coming - (keep or 0)))
        return Plan(Ladder(*rungs), tuple(self.prices[place] for place in places), (*self.reasons, why))
