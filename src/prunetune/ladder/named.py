"""Ladders by name: functions of what is known before a search to its plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from prunetune.errors import InputError
from prunetune.ladder import ladders
from prunetune.ladder.costs import Costs
from prunetune.ladder.plan import TOLERANCE, Plan
from prunetune.ladder.planner import plan
from prunetune.ladder.rung import Ladder, Rung
from prunetune.registry import build

TRIALS: Final = 50
"""Configurations of ``paper``, ``confirm-3`` and ``full`` where neither a number nor a budget is given."""
PROXY: Final = Rung(width=None)
WIDTHS: Final = (1 / 2, 1 / 4, 1 / 8)
NETWORKS: Final[dict[str, tuple[float | None, ...]]] = {
    "default": WIDTHS,
    "paper": (None,),
    "confirm-3": (None,),
    "full": (),
}
"""Which networks are cut and timed for these ladders, by width; None is the proxy of ``pruning``. Others: all."""


@dataclass(frozen=True)
class Situation:
    """What is known before anything is trained."""

    costs: Costs
    budget: float | None = None
    """Full trainings of the full network."""
    n_trials: int | None = None
    """Configurations of the first rung, if the user gave a number."""
    confirm: int | None = None
    """Configurations of the last rung, for ladders that leave it open."""
    steps_per_epoch: int | None = None


def networks_of(name: str) -> tuple[float | None, ...]:
    """The widths of the networks that the ladder ``name`` may use; None is the proxy of the run's ``pruning``."""
    return NETWORKS.get(name, (None, *WIDTHS))


def plan_by_name(name: str, situation: Situation) -> Plan:
    """The plan that the ladder ``name`` makes. Raises InputError for an unknown name, PluginError for a broken one."""
    return build(ladders, name, Plan, situation)


def plan_for(ladder: Ladder, costs: Costs, reasons: tuple[str, ...] = ()) -> Plan:
    """The plan of a ladder that somebody wrote. Raises InputError where a rung's cost has not been measured."""
    return Plan(ladder, tuple(costs.of(rung) for rung in ladder.rungs), reasons)


def default(situation: Situation) -> Plan:
    """The planner's, by the measured costs."""
    return plan(
        situation.costs,
        budget=situation.budget,
        steps_per_epoch=situation.steps_per_epoch,
        trials=situation.n_trials,
    )


def paper(situation: Situation) -> Plan:
    """Lee & Yim's: all configurations on one proxy, the best one in full, or as many as asked for."""
    return _proxy_then_full(situation, max(1, situation.confirm or 1))


def confirm_3(situation: Situation) -> Plan:
    """All configurations on one proxy, the best three in full."""
    return _proxy_then_full(situation, 3)


def full(situation: Situation) -> Plan:
    """All configurations in full: the customary search."""
    return plan_for(Ladder(Rung(trials=_affordable(situation, 1.0, 0))), situation.costs)


def _proxy_then_full(situation: Situation, finals: int) -> Plan:
    trials = _affordable(situation, situation.costs.of(PROXY), finals)
    rung = Rung(width=None, trials=trials, keep=min(finals, trials))
    return plan_for(Ladder(rung, Rung()), situation.costs)


def _affordable(situation: Situation, price: float, finals: int) -> int:
    """How many there are on the first rung: as many as asked for, or as the budget buys beside the ``finals``."""
    asked = situation.n_trials
    if situation.budget is None:
        return asked or TRIALS
    bought = math.floor((situation.budget - finals) / price + TOLERANCE)
    if bought < max(1, finals):
        least = finals + max(1, finals) * price
        raise InputError(
            f"budget is {situation.budget:g} full trainings, but the least for this ladder is {least:.3g}: "
            "give more, or take the default ladder"
        )
    return min(asked or bought, bought)
