"""A run's way up its ladder: what each rung trains, how many, and what is left of the budget."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from optuna.trial import TrialState

from prunetune.backends.study.attributes import PROXY_CURVE
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import finished_trials, open_study, outcome, top_trials
from prunetune.engine import PruningPlan
from prunetune.errors import InputError, SearchError
from prunetune.events import Notice, outcome_in_words
from prunetune.ladder.agreement import agreement, axes_between, choose_controls
from prunetune.ladder.costs import Costs
from prunetune.ladder.plan import Plan
from prunetune.ladder.promotion import RungResult, ranked
from prunetune.record.folder import read_text
from prunetune.record.schema import AskedPart, LadderPart, NetworkFile, RungPart, plain
from prunetune.tuning import parts
from prunetune.tuning.asked import stored_plan
from prunetune.tuning.objective import Objective
from prunetune.tuning.survey import Survey, least_budget, planned
from prunetune.tuning.worker import digest

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from prunetune._utils.checks import Direction
    from prunetune.backends.study.study import StudySettings
    from prunetune.tuning.run import TuningRun

SEARCH_STUDY: Final = "search"  # in the run folder
CONFIRM_STUDY: Final = "confirm"
CAME_UP: Final = {"search_trial": int, "proxy_score": float}
"""User attributes of every trial above the first rung: its number there, and its score on the rung below."""
SURE: Final = 3
"""So many trials are waited for before a time budget is planned or refused,"""
EARLY: Final = 0.1
"""unless this share of it is over."""
RESERVE: Final = 0.03
"""The share of a time budget that is kept for what is not training: reports, storage, the end."""


@dataclass(frozen=True)
class Climber:
    """A configuration on a rung, and how its training there ended."""

    number: int
    """That of its trial on the first rung."""
    params: Mapping[str, Any]
    result: RungResult[int]
    curve: Mapping[int, float]
    """Its scores by epoch."""


class Ascent:
    """The plan of a run, which a short time shrinks and poor agreement widens, and the studies of its rungs."""

    def __init__(
        self,
        run: TuningRun,
        made: Plan,
        costs: Costs,
        networks: Mapping[float | None, PruningPlan],
        full_seconds: float | None = None,
        reached: int = 0,
    ) -> None:
        self.run = run
        self.plan = self._made = self._written = made
        self.costs = costs
        self.networks = networks
        self._full_seconds = full_seconds
        self._reached = reached  # the highest rung that was begun: those below are as they are

    @property
    def last(self) -> int:
        """The place of the full network's rung."""
        return len(self.plan.ladder.rungs) - 1

    def settings(self, place: int) -> StudySettings:
        """Those of the study of a rung: above the first nobody proposes and nobody is stopped."""
        searched = self.run.settings.study()
        if place == 0:
            return searched
        epochs = self.plan.ladder.rungs[place].of_epochs(self.run.settings.epochs)
        return replace(searched, epochs=epochs, optimizer="random", trial_pruner="none", rungs="truncated")

    def study_name(self, place: int) -> str:
        """The name of a rung's study in the run folder: by what is trained, since the numbers may change.

        Where one rung does again what another does, with other seeds, they are counted.
        """
        if place in (0, self.last):
            return CONFIRM_STUDY if place else SEARCH_STUDY
        names = [self._kind(each) for each in range(1, place + 1)]
        again = names.count(names[-1])
        return names[-1] if again == 1 else f"{names[-1]}-{again}"

    def _kind(self, place: int) -> str:
        rung = self.plan.ladder.rungs[place]
        width = "proxy" if rung.width is None else f"{rung.width:.4g}"
        return f"rung-{width}-{rung.of_epochs(self.run.settings.epochs)}-{rung.resolution:.4g}-{rung.data:.4g}"

    def after(self, place: int) -> float:
        """The work of the rungs above, in epochs of this one."""
        price = self.plan.prices[place] / self.settings(place).epochs
        return sum(self.plan.spending[place + 1 :]) / price

    def limit(self, place: int, study: optuna.Study) -> int:
        """How many are to be trained on the rung by now: fewer than before where the time has become short."""
        timed = self.run.settings.budget.seconds is not None and place >= self._reached
        if timed and (full_seconds := self._seconds(place, study)):
            trained = len(finished_trials(study))
            if not self._is_early(trained):
                self._keep_time(place, trained, full_seconds)
        return self.plan.ladder.entrants[place]

    def _is_early(self, trained: int) -> bool:
        """Whether the plan for the time waits for another trial: by the first alone a full training seems too long."""
        budget = self.run.settings.budget.seconds or 0.0
        unknown = self._full_seconds is None and trained < min(SURE, self.plan.ladder.entrants[0])
        return unknown and self.run.journal.elapsed() < EARLY * budget

    def among(self, place: int, study: optuna.Study, coming: Sequence[Climber], total: int) -> Callable[[], int]:
        """How many trials of the study there are to be, of the ``total`` that there would be with all who come up."""
        self._reached = max(self._reached, place)
        return lambda: total - max(0, len(coming) - self.limit(place, study))

    def climb(self) -> None:
        """Train on each rung between the first and the last those who come up to it."""
        place = 1
        while place < self.last:
            kind = self.plan.ladder.rungs[place].kind
            self._settle(place)
            if place < self.last and self.plan.ladder.rungs[place].kind == kind:
                self._climb(place)
                place += 1
        self._settle(self.last)

    def coming(self, place: int) -> list[Climber]:
        """Who goes up to a rung from the one below, the best first, and then the controls."""
        below = self.plan.ladder.rungs[place - 1]
        before = self.climbers(place - 2) if place > 1 else []
        there = in_order(self.climbers(place - 1), before, self.settings(0).direction)
        order = [each.number for each in there]
        up = order[: below.keep]
        by_number = {each.number: each for each in there}
        return [by_number[number] for number in (*up, *choose_controls(order, up, below.controls))]

    def climbers(self, place: int) -> list[Climber]:
        """All that were trained on a rung."""
        needs = CAME_UP if place else {}
        storage, name = self.run.folder.storage, self.study_name(place)
        with open_study(storage, name, self.settings(place), observer=self.run.observer, needs=needs) as study:
            return climbers(study)

    def record(self) -> dict[str, Any]:
        """What ``result.json`` says of the plan."""
        prices, ladder = self.plan.prices, self.plan.ladder
        rungs = [
            asdict(RungPart(rung.describe(), entrants, price, self.study_name(place)))
            for place, (rung, entrants, price) in enumerate(zip(ladder.rungs, ladder.entrants, prices, strict=True))
        ]
        told = {"rungs": rungs, "reasons": [*self.plan.reasons]}
        return {"plan": self.plan.to_record(), **told, "full_seconds": self._full_seconds}

    def _objective(self, place: int) -> Objective:
        rung, problem, pruning = self.plan.ladder.rungs[place], self.run.problem, self.run.settings.pruning
        if rung.width == 1:
            return Objective(problem.model_fn, problem.train, resolution=rung.resolution, data=rung.data)
        objective = Objective.on_proxy(
            problem.model_fn,
            problem.train,
            self.networks[rung.width],
            pruning.weights,
            pruning.transfer,
            resolution=rung.resolution,
            data=rung.data,
            observer=self.run.observer,
        )
        return replace(objective, unasked="")  # the search has told it

    def _climb(self, place: int) -> None:
        def update() -> None:
            run.journal.lap("climb")
            summary = plain(parts.climb_part(study, rung.describe(), controls, run.settings.space))
            known = {each["study"]: each for each in run.record.get("climbs", ())}
            said = known.get(study.study_name, summary)["agreement"]
            run.record["climbs"] = [*{**known, study.study_name: {**summary, "agreement": said}}.values()]

        run, rung, settings = self.run, self.plan.ladder.rungs[place], self.settings(place)
        coming = self.coming(place)
        controls = [each.number for each in coming[self.plan.ladder.rungs[place - 1].keep :]]
        storage, name = run.folder.storage, self.study_name(place)
        with open_study(storage, name, settings, observer=run.observer, needs=CAME_UP) as study:
            run.journal.set_status("climbing")
            run.observer(Notice(f"rung {place + 1} of {self.last + 1}: {rung.describe()}"))
            total = enqueue(study, coming)
            try:
                run_trials(
                    study,
                    self._objective(place),
                    settings,
                    n_trials=self.among(place, study, coming, total),
                    phase="climb",
                    observer=run.journal.after_trials(update),
                    retries=0,  # what was interrupted is queued above, at the next start
                    after=self.after(place),
                )
            finally:
                update()
            there = climbers(study)
        if not any(each.result.may_go_on for each in there):
            raise SearchError(f"no training on the rung with {rung.describe()} came to a score; {fates(there)}")
        self._watch(place, there, controls)

    def _watch(self, place: int, there: Sequence[Climber], controls: Sequence[int]) -> None:
        """Say how the rung below ranked, and let more go on where it ranked badly."""
        rungs, run = self.plan.ladder.rungs, self.run
        studies = [each["study"] for each in run.record["climbs"]]
        here = studies.index(self.study_name(place))
        if run.record["climbs"][here].get("agreement") is not None:  # by an earlier start, and it was heeded
            return
        found = agreement(
            [each.result for each in self.climbers(place - 1)],
            [each.result for each in there],
            controls=controls,
            axes=axes_between(rungs[place - 1], rungs[place]),
            direction=self.settings(0).direction,
            widened=any((x.get("agreement") or {}).get("decision") == "widen" for x in run.record["climbs"][:here]),
        )
        found = replace(found, sentence=f"Rungs {place} and {place + 1}: {found.sentence}")
        run.record["climbs"][here]["agreement"] = plain(parts.agreement_part(found))
        if found.decision != "unknown":
            run.observer(Notice(found.sentence))
        if found.decision == "widen":
            self.plan = self._made = self.plan.widened(place, left=self._left_above(place))
            self._write()
        run.journal.save()

    def _left_above(self, place: int) -> float:
        """What there is for the rungs above, in full trainings."""
        budget = self.run.settings.budget
        if budget.seconds is not None:
            return self._left(place)
        return math.inf if budget.trainings is None else budget.trainings - sum(self.plan.spending[: place + 1])

    def _settle(self, place: int) -> None:
        """Begin a rung: by now the rungs below are as they are."""
        if self.run.settings.budget.seconds is None or self._full_seconds is None or place < self._reached:
            return
        trained = self._trained(place)
        spent = sum(self.plan.spending[:place]) + trained * self.plan.prices[place]
        self.plan = self._made = self.plan.shrunk(place, trained, spent=spent, left=self._left(place))
        self._write()

    def _keep_time(self, place: int, trained: int, full_seconds: float) -> None:
        """Shrink what is to come to the time that is left, given what a full training takes by the rung's pace."""
        first = self._full_seconds is None
        self._full_seconds = full_seconds
        spent = sum(self.plan.spending[:place]) + trained * self.plan.prices[place]
        if first and place == 0:
            self.plan = self._made = self._planned(spent)
        self.plan = self._made.shrunk(place, trained, spent=spent, left=self._left(place))
        self._write()

    def _planned(self, spent: float) -> Plan:
        """The plan for the time, once it is known what trainings take. Raises InputError if there is too little."""
        run = self.run
        made = partial(planned, run.settings, self.costs, steps_per_epoch=run.problem.steps)
        try:
            return made(trainings=spent + self._left(0))
        except InputError:
            asked, full = run.settings.budget.seconds or 0.0, self._full_seconds or 0.0
            needed = run.journal.elapsed() + (least_budget(lambda budget: made(trainings=budget)) - spent) * full
            raise InputError(
                f"the budget is {asked:.4g} s, but a full training of the full network is predicted to take "
                f"{full:.3g} s by the first trials, so the least is about {math.ceil(needed / (1 - RESERVE))} s; give "
                "more, and the run goes on, or fewer epochs"
            ) from None

    def _seconds(self, place: int, study: optuna.Study) -> float | None:
        """What a full training takes by the trainings of this rung; those that were stopped had fewer epochs.

        Before one has come to a score it is what it was by the rung below; None on the first, of which the very first
        training is left out: in it much is done that is done once.
        """
        epochs = self.settings(place).epochs
        ended = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) in ("complete", "pruned")]
        ended = ended[1:] if place == 0 and len(ended) > 1 else ended
        shares = sum((trial.user_attrs["epochs"] or epochs) / epochs for trial in ended) * self.plan.prices[place]
        if not shares:
            return self._full_seconds
        return sum(parts.train_seconds(trial) for trial in ended) / shares  # all else takes no longer on wider networks

    def _left(self, place: int) -> float:
        """What there is for a rung and those above, in full trainings: the time that is left and what is done above.

        What is not training has its reserve.
        """
        assert self._full_seconds is not None
        seconds = (self.run.settings.budget.seconds or 0.0) * (1 - RESERVE) - self.run.journal.elapsed()
        entrants, prices = self.plan.ladder.entrants, self.plan.prices
        above = (min(entrants[each], self._trained(each)) * prices[each] for each in range(place + 1, self.last + 1))
        return max(0.0, seconds / self._full_seconds) + sum(above)

    def _trained(self, place: int) -> int:
        """How many have been trained on a rung above the first, in earlier starts too."""
        record, name = self.run.record, self.study_name(place)
        between = next((each["trained"] for each in record.get("climbs", ()) if each["study"] == name), ())
        there = record["confirmation"] if place == self.last else between
        return sum(each["outcome"] != "interrupted" for each in there)

    def _write(self) -> None:
        """Write the plan down where it has changed; it is asked for many times a trial."""
        run = self.run
        run.record["ladder"]["full_seconds"] = self._full_seconds
        if self.plan is not self._written:
            run.settings = run.settings.on(self.plan.ladder)
            run.record["ladder"].update(self.record())
            run.record.update(run.settings.search.numbers())
            self._written = self.plan


def begun_ascent(run: TuningRun, made: Plan, found: Survey) -> Ascent:
    """The ladder of a run that is new; its networks and its plan are written down."""
    networks = {width: result.plan for width, result in found.networks.items()}  # a larger budget may need any of them
    kept = []
    for width, plan in networks.items():
        path, text = run.folder.network("proxy" if width is None else f"{width:.4g}"), plan.to_json()
        run.folder.write_text(path, text)
        kept.append(NetworkFile(width, path.name, digest(text)))
    asked, costs = AskedPart(**run.settings.asked()), found.costs.to_record()
    ascent = Ascent(run, made, found.costs, networks)
    run.record["ladder"] = {**plain(LadderPart(asked, costs=costs, networks=tuple(kept))), **ascent.record()}
    run.journal.save()
    return ascent


def resumed_ascent(run: TuningRun) -> Ascent | None:
    """The ladder of an earlier start, if it has one; a larger budget makes a larger plan, judged anew on the way."""
    part = run.record.get("ladder")
    if not part:
        return None
    networks = {each["width"]: read_plan(run.folder.path / each["file"], each["sha256"]) for each in part["networks"]}
    (made, costs), asked = stored_plan(part, run.folder.path), run.settings.asked()
    if asked == part["asked"]:
        ascent = Ascent(run, made, costs, networks, part["full_seconds"])
        ascent._reached = max((place for place in range(1, ascent.last + 1) if ascent._trained(place)), default=0)
        return ascent
    budget, known = run.settings.budget, part["full_seconds"]
    trainings = budget.trainings if known is None else budget.in_trainings(known * (1 + RESERVE))
    made = planned(run.settings, costs, trainings=trainings, steps_per_epoch=run.problem.steps)
    run.settings = run.settings.on(made.ladder)
    for each in run.record.get("climbs", ()):
        each["agreement"] = None
    ascent = Ascent(run, made, costs, networks, known)
    part.update(asked=asked, **ascent.record())
    return ascent


def read_plan(path: Path, sha256: str) -> PruningPlan:
    """The pruning plan in a file of a run. Raises InputError if it is another than the run's."""
    text = read_text(path) or ""
    if digest(text) != sha256:
        raise InputError(f"{path} is missing or was changed since the run began; choose another folder")
    return PruningPlan.from_json(text)


def climbers(study: optuna.Study) -> list[Climber]:
    """All that were trained in the study of a rung, by their numbers on the first; of several trainings the last."""
    found = {}
    for trial in study.get_trials(deepcopy=False):
        ended = outcome(trial)
        if ended in ("complete", "pruned", "diverged", "failed") and trial.params:
            number = trial.user_attrs.get("search_trial", trial.number)
            curve = dict(sorted(trial.intermediate_values.items()))
            score = trial.value if ended == "complete" else next(reversed(curve.values()), None)
            found[number] = Climber(number, trial.params, RungResult(number, score, ended), curve)
    return list(found.values())


def in_order(here: Iterable[Climber], below: Iterable[Climber], direction: Direction) -> list[Climber]:
    """All that may go on, the best first, see ``ladder.promotion``; of those with the same hyperparameters the best."""
    there = {each.number: each for each in here}
    order = ranked([each.result for each in there.values()], [each.result for each in below], direction=direction)
    found: dict[str, Climber] = {}
    for number in order:
        found.setdefault(json.dumps(dict(there[number].params), sort_keys=True), there[number])
    return list(found.values())


def enqueue(study: optuna.Study, coming: Sequence[Climber], *, stretch: float | None = None) -> int:
    """Queue those that were not trained in ``study`` yet; returns how many trials there will be in all.

    For the race, how they learned on the rung below is noted, an epoch there being ``stretch`` epochs here; None is no
    race. Where all were tried and none came to a score, all are queued again, with new seeds: this is another start,
    and the search is worth more than what failed.
    """
    finished = finished_trials(study)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    tried = {trial.user_attrs["search_trial"] for trial in (*finished, *waiting)}
    again = not waiting and not top_trials(study, 1) and tried.issuperset(each.number for each in coming)
    queued = [each for each in coming if again or each.number not in tried]
    for each in queued:
        notes: dict[str, Any] = {"search_trial": each.number, "proxy_score": each.result.score}
        if stretch is not None:
            notes[PROXY_CURVE] = [(step * stretch, score) for step, score in each.curve.items()]
        study.enqueue_trial(dict(each.params), user_attrs=notes)
    return len(finished) + len(waiting) + len(queued)


def fates(there: Sequence[Climber]) -> str:
    """How each ended, in words."""
    return "; ".join(f"trial {each.number} {outcome_in_words(each.result.outcome)}" for each in there)
