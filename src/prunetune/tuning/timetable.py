"""The plan of a run while time goes by: what a full training takes, and what there is still time for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from prunetune.backends.study.study import finished_trials, outcome
from prunetune.errors import InputError
from prunetune.tuning import parts
from prunetune.tuning.survey import least_budget, planned

if TYPE_CHECKING:
    import optuna

    from prunetune.ladder.costs import Costs
    from prunetune.ladder.plan import Plan
    from prunetune.tuning.run import TuningRun

RECENT: Final = 8
"""So many trainings say what one takes now: the machine may have been busier, or less, before."""
SURE: Final = 3
"""So many trials are waited for before a time budget is planned or refused,"""
EARLY: Final = 0.1
"""unless this share of it is over,"""
WARM: Final = 2
"""but never by the first alone: in it much is done that is done once, and the more the busier the machine is."""
OVERESTIMATED: Final = 4
"""A full training that seems so many times too long by the first trials may be short enough after all."""
RESERVE: Final = 0.03
"""The share of a time budget that is kept for what is not training: reports, storage, the end."""


class Timetable:
    """The plan of a run, which a short time shrinks and poor agreement widens.

    ``trained`` says how many have been trained on a rung above the first, ``changed`` hears when the plan has changed.
    """

    def __init__(
        self,
        run: TuningRun,
        made: Plan,
        costs: Costs,
        full_seconds: float | None,
        trained: Callable[[int], int],
        changed: Callable[[], None],
    ) -> None:
        self.plan = made
        self.full_seconds = full_seconds
        """What a full training takes, once that is known."""
        self._run = run
        self._made = made  # shrinking begins with it, so that it can be taken back
        self._costs = costs
        self._trained = trained
        self._changed = changed
        self._is_known = full_seconds is not None  # from before this plan
        self._before: dict[int, int] = {}
        """How many trainings there were on a rung when this plan came to it: the machine may be another now."""

    def keep(self, place: int, study: optuna.Study) -> None:
        """Shrink what is to come to the time that is left, by the pace of the trainings on the rung."""
        full_seconds, trained = self._seconds(place, study), len(finished_trials(study))
        if not full_seconds or self._is_early(trained):
            return
        first = self.full_seconds is None
        self.full_seconds = full_seconds
        spent = self._spent(place, trained)
        if first and place == 0:
            self._made = self._planned(spent)
        self.plan = self._made.shrunk(place, trained, spent=spent, left=self._left())
        self._changed()

    def settle(self, place: int) -> None:
        """Begin a rung: by now the rungs below are as they are."""
        if self._run.settings.budget.seconds is None or self.full_seconds is None:
            return
        trained = self._trained(place)
        spent = self._spent(place, trained)
        self.plan = self._made = self.plan.shrunk(place, trained, spent=spent, left=self._left())
        self._changed()

    def widen(self, place: int) -> None:
        """Let more go on from a rung, as far as there is something left for them."""
        self.plan = self._made = self.plan.widened(place, left=self._left_above(place))
        self._changed()

    def _spent(self, place: int, trained: int) -> float:
        return sum(self.plan.spending[:place]) + trained * self.plan.prices[place]

    def _is_early(self, trained: int) -> bool:
        """Whether the plan for the time waits for another trial: by the first alone a full training seems too long."""
        budget = self._run.settings.budget.seconds or 0.0
        unknown = self.full_seconds is None and trained < min(SURE, self.plan.ladder.entrants[0])
        return unknown and (trained < WARM or self._run.journal.elapsed() < EARLY * budget)

    def _left_above(self, place: int) -> float:
        """What there is for the rungs above, in full trainings."""
        budget = self._run.settings.budget
        if budget.seconds is not None:
            return self._left()
        return math.inf if budget.trainings is None else budget.trainings - sum(self.plan.spending[: place + 1])

    def _planned(self, spent: float) -> Plan:
        """The plan for the time, once it is known what trainings take. Raises InputError if there is too little.

        By short trainings of narrow networks a full one seems longer than it is, since not all of their time grows with
        the network. Where only that makes it too long, the plan is for the shortest that it can be, shrunk to what is
        predicted, and this may be taken back on the way.
        """
        run = self._run
        made = partial(planned, run.settings, self._costs, steps_per_epoch=run.problem.steps)
        try:
            return made(trainings=spent + self._left())
        except InputError:
            asked, full, least = run.settings.budget.seconds or 0.0, self._surely(), least_budget(made)
            needed = (run.journal.elapsed() + (least - spent) * full) / (1 - RESERVE)
            if needed <= asked:
                return made(trainings=max(least, spent + self._left() * (self.full_seconds or full) / full))
            raise InputError(
                f"the budget is {asked:.4g} s, but a full training of the full network takes at least {full:.3g} s by "
                f"the first trials, so the least is about {math.ceil(needed)} s; give more, and the run goes on, or "
                "fewer epochs"
            ) from None

    def _surely(self) -> float:
        """Seconds that a full training takes at the least: its steps alone, or where nobody knows these, a guess."""
        steps, predicted = self._run.problem.steps, self.full_seconds or 0.0
        if steps is None:
            return predicted / OVERESTIMATED
        alone = steps * self._run.settings.epochs * float(self._run.record["cost"]["base"]["step_seconds"])
        return min(alone, predicted)

    def _seconds(self, place: int, study: optuna.Study) -> float | None:
        """What a full training takes by the trainings of this rung since the plan was made; some were stopped early.

        Before one has come to a score it is what it was by the rung below; None on the first, of which the very first
        training is left out: in it much is done that is done once.
        """
        rung = self.plan.ladder.rungs[place]
        epochs = rung.of_epochs(self._run.settings.epochs)
        ended = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) in ("complete", "pruned")]
        ended = ended[self._before.setdefault(place, len(ended) if self._is_known else 0) :]
        ended = (ended[1:] if place == 0 and len(ended) > 1 else ended)[-RECENT:]
        shares = sum((trial.user_attrs["epochs"] or epochs) / epochs for trial in ended) * self._costs.of_training(rung)
        if not shares:
            return self.full_seconds
        return sum(parts.train_seconds(trial) for trial in ended) / shares  # all else takes no longer on wider networks

    def _left(self) -> float:
        """What there is time for, in full trainings; what is not training has its reserve.

        What an earlier, smaller plan has trained above is not counted: others may come up there now.
        """
        assert self.full_seconds is not None
        seconds = (self._run.settings.budget.seconds or 0.0) * (1 - RESERVE) - self._run.journal.elapsed()
        return max(0.0, seconds / self.full_seconds)
