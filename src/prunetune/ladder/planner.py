"""The plan that a budget buys: which rungs, how many configurations on each. Decision 37 has the reasons."""

from __future__ import annotations

import math
from typing import Final

from prunetune._utils.checks import real_number, whole_number
from prunetune.errors import InputError
from prunetune.ladder.costs import Costs
from prunetune.ladder.plan import TOLERANCE, Plan
from prunetune.ladder.rung import Ladder, Rung, fraction, listed

PAYS: Final = 0.8
"""A narrower network or smaller images must bring a step to this share of the next larger one's time, or less."""
ROUNDED: Final = 0.05
"""Shares that differ by less are called the same."""
LEAST_STEPS: Final = 30
"""Fewer training steps tell nothing."""
MIDDLE: Final = 1 / 4
"""The width of the rungs between the first and the last: with all epochs, Spearman .9 at a cost of about a ninth."""
FIRST: Final = 64
"""Configurations of the first rung where no budget says otherwise; and the most of a single rung below the last."""
FEWEST: Final = 8
"""A first rung has as many before any other rung is bought, where the budget allows it."""
LEAST: Final = 2
"""With fewer a rung decides nothing."""
STEEPEST: Final = 8
"""At most so many times as many are on a rung as on the next, and at least ``LEAST`` times as many."""
UNASKED: Final = 3.4
"""The most that the default shape may cost: as much as its prototype. Where nothing is cheap, it is smaller."""
TWO_FROM: Final = 4.0
"""The budget from which two are trained in full, where proxies rank poorly."""


def plan(
    costs: Costs,
    *,
    budget: float | None = None,
    steps_per_epoch: int | None = None,
    trials: int | None = None,
    poor: bool = False,
    controls: bool = True,
) -> Plan:
    """The ladder for a budget.

    >>> measured = Costs({(1 / 2, 1.0): 0.5, (1 / 4, 1.0): 1 / 7, (1 / 8, 1.0): 1 / 8}, epochs=9)
    >>> made = plan(measured, budget=3.35, controls=False)
    >>> made.ladder.entrants, round(made.total, 2)
    ((64, 16, 4, 1), 3.35)

    Parameters
    ----------
    costs
        The measured step times; which widths and resolutions are there decides which rungs there may be.
    budget
        Full trainings of the full network; without one, the default shape, 64 → 16 → 4 → 1, up to a cost of 4.
    steps_per_epoch
        Training steps of an epoch; without, the shortest training is taken to be long enough.
    trials
        Configurations of the first rung: with a budget at most so many, otherwise so many instead of 64.
    poor
        The proxies are known to rank poorly: two are trained in full where the budget is 4 or more.
    controls
        Some of those on each middle rung are controls, see ``agreement``.

    Raises
    ------
    InputError
        The budget is less than one training of the full network and the least before it.
    """
    if budget is not None:
        budget = real_number("budget", budget)
        if not 0 < budget < math.inf:
            raise InputError(f"budget is {budget:g} full trainings, but it must be a number above 0")
    if trials is not None:
        trials = whole_number("trials", trials, minimum=1)
    rungs, reasons = _rungs(costs, steps_per_epoch)
    most = UNASKED if budget is None and trials is None else budget
    if not rungs or trials == 1:
        return _full_only(most, trials, reasons)
    prices = [costs.of(rung) for rung in rungs]
    enough = budget is not None and budget >= max(TWO_FROM, 2 + FEWEST * prices[0])
    finals = 2 if poor and enough and (trials or FIRST) >= 2 * LEAST else 1
    if finals == 2:
        reasons.append("Two are trained in full, since the proxies rank poorly and the budget allows it.")
    purchase = _Purchase(prices, finals, most, trials, bounded=budget is None)
    counts = purchase.made()
    if budget is not None and not purchase.options():
        reasons.append(f"The rest of the budget of {budget:g} stays unspent: more would hardly bring a better choice.")
    bought = [(rung, price, n) for rung, price, n in zip(rungs, prices, counts, strict=True) if n]
    if missing := [rung.describe() for rung, n in zip(rungs, counts, strict=True) if not n]:
        reasons.append(f"There is no rung with {listed(missing)}: too little is left for it.")
    return Plan(
        _ladder([rung for rung, _, _ in bought], [n for _, _, n in bought], finals, controls),
        (*(price for _, price, _ in bought), 1.0),
        tuple(reasons),
    )


def _ladder(rungs: list[Rung], counts: list[int], finals: int, controls: bool) -> Ladder:
    made = []
    for place, rung in enumerate(rungs):
        above = counts[place + 1] if place + 1 < len(counts) else finals
        watched = min(3, above // 5) if controls and place + 1 < len(counts) else 0
        trials = counts[0] if place == 0 else 0
        made.append(Rung(*rung.kind, trials=trials, keep=above - watched, controls=watched))
    return Ladder(*made, Rung())


def _full_only(budget: float | None, trials: int | None, reasons: list[str]) -> Plan:
    if budget is not None and budget < 1 - TOLERANCE:
        raise InputError(f"budget is {budget:g} full trainings, but the least is 1: a training of the full network")
    affordable = math.inf if budget is None else math.floor(budget + TOLERANCE)
    count = int(min(trials or affordable, affordable))
    if trials != 1:
        reasons.append("Nothing is cheaper than the full network here, so all configurations are trained in full.")
    return Plan(Ladder(Rung(trials=count)), (1.0,), tuple(reasons))


def _rungs(costs: Costs, steps_per_epoch: int | None) -> tuple[list[Rung], list[str]]:
    """The rungs below the full network that may be worth it, from the cheapest on, and why they are these."""
    widths, reasons = _widths(costs)
    proxies = [width for width in widths if width < 1] or [1.0]
    middle = min(proxies, key=lambda width: (abs(math.log(width / MIDDLE)), -width))
    narrowest = min(proxies)
    small = _resolution(costs, narrowest, reasons)
    always = small if proxies == [1.0] else 1.0  # where no width pays, smaller images are the only cheaper network
    shortest, second = _epochs(costs.epochs, steps_per_epoch, reasons)
    kept: list[Rung] = []
    for rung in (Rung(middle, 1.0, always), Rung(middle, second, always), Rung(narrowest, shortest, small)):
        dearer = costs.of(kept[0]) if kept else 1.0
        if costs.of(rung) <= dearer / LEAST + TOLERANCE:
            kept.insert(0, rung)
    return kept, reasons


def _widths(costs: Costs) -> tuple[list[float], list[str]]:
    """The measured widths that pay, from the full network down."""
    reasons = []
    widths = [1.0]
    for width in sorted((w for w, r in costs.steps if r == 1 and w is not None and w < 1), reverse=True):
        ratio, larger = costs.step(width), costs.step(widths[-1])
        if ratio <= PAYS * larger + TOLERANCE:
            widths.append(width)
        else:
            reasons.append(
                f"No rung has {fraction(width)} of the width, which saves too little: a step takes {ratio:.3g} of the "
                f"full network's, and {larger:.3g} at {fraction(widths[-1])}."
            )
    return widths, reasons


def _resolution(costs: Costs, width: float, reasons: list[str]) -> float:
    """The least resolution that was measured at a width, if it pays."""
    least = min(r for w, r in costs.steps if w == width)
    if least == 1:
        return 1.0
    ratio, whole = costs.step(width, least), costs.step(width)
    if ratio <= PAYS * whole + TOLERANCE:
        return least
    reasons.append(
        f"No rung has smaller images, which save too little: at {fraction(least)} of the resolution a step takes "
        f"{ratio:.3g} of the full network's, and {whole:.3g} with whole images."
    )
    return 1.0


def _epochs(epochs: int, steps_per_epoch: int | None, reasons: list[str]) -> tuple[float, float]:
    """The shares of epochs on the first two rungs."""
    for share in (1 / 9, 1 / 3):
        steps = math.inf if steps_per_epoch is None else Rung(epochs=share).of_epochs(epochs) * steps_per_epoch
        if steps >= LEAST_STEPS:
            return _as_trained(share, epochs), _as_trained(1 / 3, epochs)
        reasons.append(f"No rung has {fraction(share)} of the epochs: {steps:g} training steps tell too little.")
    return 1.0, 1.0


def _as_trained(share: float, epochs: int) -> float:
    """The share that whole epochs come to, where that is another: a ninth of two epochs is one of them, a half."""
    whole = Rung(epochs=share).of_epochs(epochs) / epochs
    return whole if abs(whole - share) > ROUNDED * share else share


class _Purchase:
    """Configurations are bought one by one, always for the rung that costs least with one more.

    So all rungs come to cost about the same. When there are as many as in the default shape, the first rung grows, then
    those above it as the steepness demands. A larger budget buys the same and then more, but for the change, which goes
    to the first rung. A rung is opened with as many as decide something.
    """

    def __init__(
        self, prices: list[float], finals: int, budget: float | None, trials: int | None, *, bounded: bool
    ) -> None:
        self.prices, self.finals, self.bounded = prices, finals, bounded
        self.most = trials or (FIRST if bounded else math.inf)
        first = trials or FIRST
        self.shape = [round(first ** (1 - place / len(prices))) * finals for place in range(len(prices))]
        self.left = math.inf if budget is None else budget - finals + TOLERANCE
        start = int(min(FEWEST, first, self.left // prices[0]))
        if start < LEAST:
            least = math.ceil(1000 * (1 + LEAST * prices[0])) / 1000
            raise InputError(
                f"budget is {budget:g} full trainings, but the least is {least:g}: a training of the full network, and "
                f"{LEAST} before it that cost {prices[0]:.3g} each"
            )
        self.counts = [start, *[0] * (len(prices) - 1)]
        self.left -= start * prices[0]

    def made(self) -> list[int]:
        """How many on each rung."""
        while options := self.options():
            if not self._buy(min(options)[-1]):
                break
        while any(place == 0 for *_, place in self.options()) and self._buy(0):
            pass
        return self.counts

    def options(self) -> list[tuple[bool, float, int]]:
        """What may be bought: whether it is beyond the shape, what the rung costs then, its place. Least first."""
        found = []
        for place, count in enumerate(self.counts):
            after = count + self._step(place)
            beyond = place > 0 and after > self.shape[place]
            if LEAST * after <= self._below(place) and after <= self._most(place) and not (beyond and self.bounded):
                found.append((beyond, after * self.prices[place], place))
        return found

    def _step(self, place: int) -> int:
        """One, or as many as a rung is opened with."""
        return 1 if self.counts[place] else max(LEAST * self.finals, math.ceil(self._below(place) / STEEPEST))

    def _below(self, place: int) -> float:
        """How many there are on the next rung below that is open."""
        return next((n for n in reversed(self.counts[:place]) if n), math.inf)

    def _most(self, place: int) -> float:
        """How many there may be, given those on the next rung above that is open."""
        above = next((n for n in self.counts[place + 1 :] if n), 0)
        if place:
            return STEEPEST * (above or self.finals)
        return min(self.most, STEEPEST * above or max(FIRST, self.shape[0]))

    def _buy(self, place: int) -> bool:
        number = self._step(place)
        if number * self.prices[place] > self.left:
            return False
        self.left -= number * self.prices[place]
        self.counts[place] += number
        return True
