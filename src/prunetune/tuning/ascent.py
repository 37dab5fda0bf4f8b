"""A run's way up its ladder: who is trained on each rung, and what two rungs say about each other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from prunetune._utils.hashes import digest
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import finished_trials, open_study, outcome
from prunetune.errors import InputError, SearchError, StorageError
from prunetune.events import Notice
from prunetune.ladder.agreement import agreement, axes_between, choose_controls
from prunetune.ladder.costs import Costs
from prunetune.ladder.plan import Plan
from prunetune.ladder.planner import LEAST_STEPS
from prunetune.record.folder import read_text
from prunetune.record.schema import AskedPart, LadderPart, NetworkFile, RungPart, plain
from prunetune.tuning import parts
from prunetune.tuning.asked import stored_plan
from prunetune.tuning.climbers import CAME_UP, Climber, climbers, enqueue, fates, in_order
from prunetune.tuning.order import Order
from prunetune.tuning.plans import Plans
from prunetune.tuning.recovered import keep_recovered
from prunetune.tuning.rung_study import CONFIRM_STUDY, SEARCH_STUDY, nothing_at_work, published, rung_study
from prunetune.tuning.survey import Survey, planned
from prunetune.tuning.timetable import RESERVE, Timetable

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.study.study import StudySettings
    from prunetune.events import Phase
    from prunetune.tuning.run import TuningRun

SPENT: Final = 0.7
"""A run that ends when less of its time budget is spent goes on with a larger plan."""


class Ascent:
    """The rungs of a run: who is trained on each, in which study, and what they say about each other."""

    def __init__(
        self,
        run: TuningRun,
        made: Plan,
        costs: Costs,
        networks: Mapping[float | None, Plans],
        full_seconds: float | None = None,
        *,
        begun: bool = False,
    ) -> None:
        self.run = run
        self.networks = networks
        self._timetable = Timetable(run, made, costs, full_seconds, self._trained, self._write)
        self._written = made
        self._told: set[int] = set()  # rungs of which it was said that they end early
        self._reached = self._begun() if begun else 0  # the highest rung that was begun: those below are as they are

    @property
    def plan(self) -> Plan:
        """Which rungs there are by now, and what they cost."""
        return self._timetable.plan

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
        return replace(searched, epochs=epochs, optimizer="random", trial_pruner="none")

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
        if self.run.settings.budget.seconds is not None and place >= self._reached:
            self._timetable.keep(place, study)
        return int(min(self.plan.ladder.entrants[place], self._enough(place, study)))

    def _enough(self, place: int, study: optuna.Study) -> float:
        """How many are enough on a rung, by what was seen there: those that there are, or as many as are planned."""
        search = self.run.settings.search
        if search.target is None and search.patience is None:
            return math.inf
        trained, sign = finished_trials(study), 1.0 if self.settings(0).direction == "maximize" else -1.0
        scores = [sign * (each.value or 0.0) if outcome(each) == "complete" else -math.inf for each in trained]
        if not scores:
            return math.inf
        best, why = max(scores), ""
        if search.target is not None and best >= sign * search.target:
            why = f"a score of {sign * best:.6g} is good enough"
        elif search.patience and not place and len(scores) > search.patience + scores.index(best):
            why = f"the last {search.patience} were no better than {sign * best:.6g}"
        if why and place not in self._told:
            self._told.add(place)
            self.run.observer(Notice(f"rung {place + 1} ends after {len(trained)}: {why}"))
        return len(trained) if why else math.inf

    def among(self, place: int, study: optuna.Study, coming: Sequence[Climber]) -> Callable[[], int]:
        """Queue those who come up to a rung; how many trials of its study there are to be, asked before each."""
        self._reached = self.run.record["ladder"]["reached"] = max(self._reached, place)
        enqueue(study, coming, start=True)
        if not place:  # the best of the only rung, once more
            return lambda: enqueue(study, coming)
        return lambda: enqueue(study, coming) - max(0, len(coming) - self.limit(place, study))

    def _begun(self) -> int:
        """The highest rung that an earlier start had begun."""
        known: int | None = self.run.record["ladder"].get("reached")
        return max((at for at in range(1, self.last + 1) if self._trained(at)), default=0) if known is None else known

    def climb(self) -> None:
        """Train on each rung between the first and the last those who come up to it."""
        place = 1
        while place < self.last:
            kind = self.plan.ladder.rungs[place].kind
            if place >= self._reached:
                self._timetable.settle(place)
            if place < self.last and self.plan.ladder.rungs[place].kind == kind:
                self._climb(place)
                place += 1
        if self.last >= self._reached:
            self._timetable.settle(self.last)

    def coming(self, place: int) -> list[Climber]:
        """Who goes up to a rung from the one below, the best first, and then the controls; of one rung the best."""
        if not place:
            return in_order(self.climbers(0), (), self.settings(0).direction)[:1]
        below = self.plan.ladder.rungs[place - 1]
        before = self.climbers(place - 2) if place > 1 and not self._is_left(place - 2) else []
        there = in_order(self.climbers(place - 1), before, self.settings(0).direction)
        order = [each.number for each in there]
        up = order[: below.keep]
        by_number = {each.number: each for each in there}
        return [by_number[number] for number in (*up, *choose_controls(order, up, below.controls))]

    def _is_left(self, place: int) -> bool:
        """Whether a rung ranked at random, as far as the one above it can tell, so that its ranks count no more."""
        above = {each["study"]: each.get("agreement") or {} for each in self.run.record.get("climbs", ())}
        return above.get(self.study_name(place + 1), {}).get("decision") in ("widen", "leave")

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
            asdict(
                RungPart(
                    rung.describe(), entrants, price, self.study_name(place), rung.of_epochs(self.run.settings.epochs)
                )
            )
            for place, (rung, entrants, price) in enumerate(zip(ladder.rungs, ladder.entrants, prices, strict=True))
        ]
        told = {"rungs": rungs, "reasons": [*self.plan.reasons]}
        known = {"full_seconds": self._timetable.full_seconds, "reached": self._reached}
        return {"plan": self.plan.to_record(), **told, **known}

    def order(self, place: int, n_trials: int) -> Order:
        """How to train on a rung."""
        rung, pruning = self.plan.ladder.rungs[place], self.run.settings.pruning
        plan = None if rung.width == 1 else self.networks[rung.width].to_json()
        job = None if place else self.run.folder.read_json(self.run.folder.config)
        shares = {"resolution": rung.resolution, "data": rung.data}
        transfer, optimizers = pruning.transfer, pruning.optimizers
        return Order(n_trials, pruning.begins, plan, transfer, optimizers, job, **shares, keeps=rung.is_full)

    def train_on(
        self,
        place: int,
        study: optuna.Study,
        settings: StudySettings,
        wanted: Callable[[], int],
        update: Callable[[], None],
        phase: Phase,
        *,
        alone: bool = False,
    ) -> None:
        """Train on a rung until it has as many as are ``wanted``, with the workers that there are, unless ``alone``."""
        run, order = self.run, self.order(place, wanted())
        if order.plan is not None:
            plans = self.networks[self.plan.ladder.rungs[place].width]
            keep_recovered(run.folder.path, run.problem, plans, run.settings.pruning, run.observer)
        objective = order.objective(run.problem.model_fn, run.problem.train, run.observer, folder=run.folder.path)
        if place:
            objective = replace(objective, unasked="")  # the search has told it
        elif self.plan.ladder.rungs[0].epochs < 1 and run.problem.steps is None:
            objective = replace(objective, few_steps=LEAST_STEPS)
        if alone:
            nothing_at_work(run, study)
        try:
            run_trials(
                study,
                objective,
                settings,
                n_trials=wanted if alone else published(run, study, order, wanted),
                phase=phase,
                observer=run.journal.after_trials(update),
                after=self.after(place),
                distinct=phase == "search",
                others_train=run.others_train,
            )
        finally:
            with contextlib.suppress(StorageError):  # the record has what was known before it was gone
                update()

    def _climb(self, place: int) -> None:
        def update() -> None:
            run.journal.lap("climb")
            summary = plain(parts.climb_part(study, name, rung.describe(), controls, run.settings.space))
            known = {each["study"]: each for each in run.record.get("climbs", ())}
            said = known.get(name, summary)["agreement"]
            run.record["climbs"] = [*{**known, name: {**summary, "agreement": said}}.values()]

        run, rung = self.run, self.plan.ladder.rungs[place]
        settings, name = self.settings(place), self.study_name(place)
        coming = self.coming(place)
        controls = [each.number for each in coming[self.plan.ladder.rungs[place - 1].keep :]]
        with rung_study(run, name, settings) as study:
            run.journal.set_status("climbing")
            run.observer(Notice(f"rung {place + 1} of {self.last + 1}: {rung.describe()}"))
            self.train_on(place, study, settings, self.among(place, study, coming), update, "climb")
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
            self._timetable.widen(place)
        run.journal.save()

    def _trained(self, place: int) -> int:
        """How many have been trained on a rung above the first, in earlier starts too."""
        record, name = self.run.record, self.study_name(place)
        between = next((each["trained"] for each in record.get("climbs", ()) if each["study"] == name), ())
        there = record["confirmation"] if place == self.last else between
        return sum(each["outcome"] != "interrupted" for each in there)

    def _write(self) -> None:
        """Write the plan down where it has changed; it is asked for many times a trial."""
        run = self.run
        run.record["ladder"]["full_seconds"] = self._timetable.full_seconds
        if self.plan is not self._written:
            run.settings = run.settings.on(self.plan.ladder)
            run.record["ladder"].update(self.record())
            run.record.update(run.settings.numbers())
            self._written = self.plan


def begun_ascent(run: TuningRun, made: Plan, found: Survey) -> Ascent:
    """The ladder of a run that is new; its networks and its plan are written down."""
    kept = []
    for width, plans in found.plans.items():  # a larger budget may need any of them
        path, text = run.folder.network("proxy" if width is None else f"{width:.4g}"), plans.to_json()
        run.folder.write_text(path, text)
        kept.append(NetworkFile(width, path.name, digest(text)))
    asked, costs = AskedPart(**run.settings.asked()), found.costs.to_record()
    ascent = Ascent(run, made, found.costs, found.plans)
    run.record["ladder"] = {**plain(LadderPart(asked, costs=costs, networks=tuple(kept))), **ascent.record()}
    run.journal.save()
    return ascent


def resumed_ascent(run: TuningRun) -> Ascent:
    """The ladder of an earlier start; a larger budget makes a larger plan, judged anew on the way."""
    part = run.record["ladder"]
    networks = {each["width"]: _kept_plans(run.folder.path, each) for each in part["networks"]}
    (made, costs), asked = stored_plan(part, run.folder.path), run.settings.asked()
    if asked == part["asked"]:
        return Ascent(run, made, costs, networks, part["full_seconds"], begun=True)
    return _gone_on(run, _whole_plan(run, costs, part["full_seconds"]), costs, networks, part["full_seconds"])


def quicker_ascent(run: TuningRun) -> Ascent | None:
    """A larger plan where much of a time budget is left, since trainings took less than they seemed to; else None."""
    seconds, elapsed = run.settings.budget.seconds, run.journal.elapsed()
    full = [each["seconds"] for each in run.record["confirmation"] if each["outcome"] == "complete" and each["seconds"]]
    if seconds is None or not full or elapsed > SPENT * seconds:
        return None
    costs = stored_plan(run.record["ladder"], run.folder.path)[1]
    made = _whole_plan(run, costs, mean(full))
    if made.ladder.entrants[0] <= sum(run.record["search"]["trials"].values()):
        return None
    run.observer(Notice(f"{seconds - elapsed:.0f} s are left, since trainings took less than it seemed: {made}"))
    return _gone_on(run, made, costs, run.ascent.networks, mean(full))


def _whole_plan(run: TuningRun, costs: Costs, full_seconds: float | None) -> Plan:
    """The plan for the whole budget, given what a full training takes, if that is known."""
    budget = run.settings.budget
    trainings = budget.trainings if full_seconds is None else budget.in_trainings(full_seconds * (1 + RESERVE))
    return planned(run.settings, costs, trainings=trainings, steps_per_epoch=run.problem.steps)


def _gone_on(
    run: TuningRun,
    made: Plan,
    costs: Costs,
    networks: Mapping[float | None, Plans],
    full_seconds: float | None,
) -> Ascent:
    """The way up a larger plan from the first rung on; its rungs are judged anew."""
    run.settings = run.settings.on(made.ladder)
    for each in run.record.get("climbs", ()):
        each["agreement"] = None
    ascent = Ascent(run, made, costs, networks, full_seconds)
    run.record["ladder"].update(asked=run.settings.asked(), **ascent.record())
    return ascent


def _kept_plans(folder: Path, kept: Mapping[str, str]) -> Plans:
    if Path(kept["file"]).name != kept["file"]:
        raise InputError(f"the record in {folder} names a plan outside of it, {kept['file']!r}; choose another folder")
    return read_plans(folder / kept["file"], kept["sha256"])


def read_plans(path: Path, sha256: str) -> Plans:
    """The pruning plans in a file of a run. Raises InputError if it is another than the run's."""
    text = read_text(path) or ""
    if digest(text) != sha256:
        raise InputError(f"{path} is missing or was changed since the run began; choose another folder")
    return Plans.from_json(text)
