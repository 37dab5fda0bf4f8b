"""One run from start or restart to end: what ``prunetune.tune`` does once its arguments are checked."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from prunetune import engine, report
from prunetune.backends.study.attributes import FIRST
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.notes import direction_warning, study_notes
from prunetune.backends.study.study import copy_study, open_study, top_trials
from prunetune.engine import PruningPlan, fresh_proxy
from prunetune.errors import InputError, SearchError, StorageError
from prunetune.events import (
    Notice,
    Observer,
    PhaseEnded,
    counts_in_words,
)
from prunetune.pruning.cut import prune
from prunetune.record import provenance
from prunetune.record.folder import FORMAT, RunFolder, load_weights
from prunetune.record.provenance import Record
from prunetune.record.schema import CostPart, FidelityPart, Result
from prunetune.record.stored import read_record
from prunetune.tuning import parts
from prunetune.tuning.ascent import SEARCH_STUDY, Ascent, begun_ascent, read_plan, resumed_ascent
from prunetune.tuning.asked import resumed
from prunetune.tuning.confirm import confirm, crown, on_base
from prunetune.tuning.energy import Meter
from prunetune.tuning.fidelity import AXES, FULL, Fidelity, cost_of
from prunetune.tuning.fingerprint import EVALUATE, Resume, continued, publish_given, sentences
from prunetune.tuning.journal import Journal
from prunetune.tuning.objective import Objective, unread_notes
from prunetune.tuning.problem import Problem
from prunetune.tuning.refine import refine
from prunetune.tuning.resolution import check_resolution, choose_fidelity
from prunetune.tuning.result import TuneResult
from prunetune.tuning.saving import full_trainings, will_not_pay
from prunetune.tuning.settings import Settings
from prunetune.tuning.survey import planned, survey, whole
from prunetune.tuning.train_checks import not_read_note
from prunetune.tuning.transfer_notes import transfer_note
from prunetune.tuning.worker import Order, digest, owner_of, publish, publish_trials

if TYPE_CHECKING:
    import optuna

    from prunetune.pruning.result import PruneResult


class TuningRun:
    """One run from start or restart to end."""

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        folder: RunFolder,
        observer: Observer,
        meter: Meter,
        first: Sequence[Mapping[str, Any]] = (),
        remarks: Sequence[str] = (),
    ) -> None:
        self.problem = problem
        self.settings = settings
        self.folder = folder
        self.observer = observer
        self.journal = Journal(folder, observer, meter)
        self.first = [dict(point) for point in first]
        self.remarks = remarks
        """What is to be said of the network, beside the notes on the search."""
        self.ascent: Ascent | None = None
        """Where the search is a ladder."""

    @property
    def record(self) -> Record:
        """What ``result.json`` holds."""
        return self.journal.record

    def go(self, base: nn.Module, resume: Resume = "same") -> TuneResult:
        """Do what is left of the run."""
        stored = read_record(self.folder.result)
        if stored is not None:
            self.settings = resumed(self.settings, stored, self.folder.path)
            self.settings.check_same(stored, self.folder.path)
            self.journal.go_on_with(stored)
        different = self._compared(base, resume)
        if self.record.get("status") == "finished" and self._asks_no_more():
            return self._finished_before(different)
        if self.record:
            plan = self._stored_plan()
            self.ascent = resumed_ascent(self)
        elif self.settings.ladder is not None:
            plan = self._survey(base)
        else:
            plan = self._prune(base)
        self.settings = replace(self.settings, fidelity=self._chosen_fidelity())
        self.record.update(self.settings.search.numbers())
        self._note_differences(different)
        self.record.setdefault("id", uuid.uuid4().hex)
        with self.journal.recording():
            with self.journal.metered("search"):
                self._search(plan)
                if self.ascent is not None:
                    self.ascent.climb()
            with self.journal.metered("confirm"):
                if not self._searched_in_full() or not crown(self):
                    if self._searched_in_full():
                        self.observer(
                            Notice("the best was trained by a worker, who keeps no weights: it is trained again")
                        )
                    confirm(self)
                    refine(self)
            self._test()
            self.record["status"] = "finished"
        self._write_report()
        return self._result(already_finished=False)

    def _asks_no_more(self) -> bool:
        """Whether nothing is asked for beyond what the record has: more trials, or a larger budget."""
        part = self.record.get("ladder")
        numbers = all(now == self.record.get(name, 0) for name, now in self.settings.search.numbers().items())
        return numbers and (not part or part["asked"] == self.settings.asked())

    def _compared(self, base: nn.Module, resume: Resume) -> dict[str, str]:
        """What is different from what the run was started with, and was let pass."""
        self.given = self.problem.fingerprint(base)
        trials = (self.record.get("search") or {}).get("trials") or {}
        known = sum(trials.get(each, 0) for each in ("complete", "pruned", "diverged"))
        return continued(self.folder, self.given, resume=resume, observer=self.observer, known=known, evaluate=True)

    def _note_differences(self, different: Mapping[str, str]) -> None:
        if noted := sentences({name: each for name, each in different.items() if name != EVALUATE}):
            self.record["anyway"] = [*self.record.get("anyway", []), *noted]

    def _prune(self, base: nn.Module) -> PruningPlan:
        settings, example_inputs = self.settings, self.problem.example_inputs
        if settings.fidelity.cost is None:
            check_resolution(base, example_inputs, settings.fidelity.resolution)
        with self.journal.phase("prune") as say:
            arguments = {**settings.pruning.arguments(), **self.problem.scoring.arguments()}
            result = prune(base, example_inputs, **arguments, seed=settings.seed, observer=self.observer)
            self.journal.lap("prune")
            steps = engine.step_time({"base": base, "proxy": result.model}, example_inputs)
            ratio = steps["proxy"] / steps["base"]
            fidelity, predicted = choose_fidelity(
                settings.fidelity, base, result.model, example_inputs, epochs=settings.epochs, ratio=ratio
            )
            self.journal.lap("measure")
            flops = result.cost.proxy.flops / max(1, result.cost.base.flops)
            trial = "" if fidelity == FULL else f"; a trial costs {predicted.total:.2g} of a full training"
            say(f"the proxy has {flops:.1%} of the FLOPs, its step takes {ratio:.1%} of the time{trial}")
        self._begin(base, result, parts.cost_part(result, steps, fidelity, predicted))
        return result.plan

    def _searched_in_full(self) -> bool:
        """Whether the only rung is the full network's, so that nothing needs to be trained again."""
        return self.ascent is not None and not self.ascent.last

    def _survey(self, base: nn.Module) -> PruningPlan:
        """Cut and time the networks that the ladder may use, and plan it."""
        with self.journal.phase("prune") as say:
            found = survey(self.problem, self.settings, base, self.observer)
            self.journal.lap("prune")
            trainings = self.settings.budget.trainings
            made = planned(self.settings, found.costs, trainings=trainings, steps_per_epoch=self.problem.steps)
            say(str(made))
        for reason in made.reasons:
            self.observer(Notice(reason))
        self.settings = self.settings.on(made.ladder)
        first = made.ladder.rungs[0]
        result = found.networks.get(first.width) or whole(self.problem, self.settings, base)
        step = found.costs.step(first.width, first.resolution)
        shares = cost_of(self.settings.fidelity, step, self.settings.epochs)
        steps = {"base": found.seconds[1.0], "proxy": found.seconds.get(first.width, found.seconds[1.0])}
        self._begin(base, result, parts.cost_part(result, steps, self.settings.fidelity, shares))
        self.ascent = begun_ascent(self, made, found)
        return result.plan

    def _begin(self, base: nn.Module, result: PruneResult, cost: CostPart) -> None:
        """Write down how the run begins."""
        plan_text = result.plan.to_json()
        asked = self.settings.to_record()
        self.journal.begin(
            Result(
                FORMAT,
                command=provenance.command(),
                versions=provenance.versions(),
                machine=provenance.machine(base),
                **{
                    **asked,
                    "fidelity": FidelityPart(**asked["fidelity"]),
                    "pruning": parts.pruning_part(asked["pruning"], result, digest(plan_text)),
                },
                cost=cost,
            )
        )
        self.folder.write_text(self.folder.plan, plan_text)
        self.journal.save()

    def _chosen_fidelity(self) -> Fidelity:
        """That of the trials: what was asked for, or what came of the cost that was, when the proxy was measured."""
        trial = self.record["cost"].setdefault("trial", {"fidelity": {}, "predicted": None, "measured": None})
        return Fidelity(**{axis: trial["fidelity"][axis] for axis in AXES if axis in trial["fidelity"]})

    def _stored_plan(self) -> PruningPlan:
        plan = read_plan(self.folder.plan, self.record["pruning"]["plan_sha256"])
        fresh_proxy(self.problem.model_fn, plan)  # raises PlanError here and now if it is another network
        return plan

    def _search(self, plan: PruningPlan) -> None:
        asked, settings, pruning = self.settings.search, self.settings.study(), self.settings.pruning
        ascent, published = self.ascent, asked.trials

        def update() -> None:
            self.journal.lap("search")
            mistakes = (not_read_note(parts.not_read(study)), *unread_notes(study))
            extra = (transfer_note(study, pruning.transfer), *mistakes, *self.record.get("anyway", ()))
            before = (*study_notes(study, settings, self.settings.search.trials), not_paying, *self.remarks)
            notes = (*before, *extra, direction_warning(study))
            self.record["search"] = parts.search_part(study, self.settings.space, [note for note in notes if note])
            if self._searched_in_full() and (best := self.record["search"]["best"]):
                self.folder.drop_weights(self.folder.trial_weights, best["trial"])

        def limit() -> int:
            nonlocal published
            wanted = asked.trials if ascent is None else ascent.limit(0, study)
            if wanted != published:  # the plan has shrunk or grown, and workers go by what was published
                published = wanted
                publish_trials(study, wanted)
            return wanted

        name = asked.study_name(self.folder.path)
        not_paying = self._not_paying()
        if not_paying and self.record["search"] is None:  # it was said when the search began
            self.observer(Notice(not_paying))
        owner = owner_of(self.record["id"], str(self.folder.path.absolute()))
        storage = asked.storage or self.folder.storage
        order = self._order(plan)
        objective = self._objective(plan, order)
        with open_study(storage, name, settings, owner=owner, observer=self.observer) as study:
            self._check_not_lost(study)
            publish(study, order)
            publish_given(study, self.given)
            self._enqueue_first(study)
            self.journal.set_status("searching")
            observer = self.journal.after_trials(update)
            try:
                run_trials(
                    study,
                    objective,
                    settings,
                    n_trials=limit,
                    observer=observer,
                    after=self._work_after_search() if ascent is None else ascent.after(0),
                    distinct=True,
                )
            finally:
                with contextlib.suppress(StorageError):  # the record has what was known before it was gone
                    update()
            if asked.storage is not None:  # so that the folder holds all that the report and the confirmation need
                copy_study(study, self.folder.storage, SEARCH_STUDY, settings, observer=self.observer)
            if not top_trials(study, 1):
                counts = counts_in_words(self.record["search"]["trials"])
                raise SearchError(f"no trial on the proxy came to a score; {counts}")
        self.journal.write_best("proxy", self.record["search"]["best"])

    def _objective(self, plan: PruningPlan, order: Order) -> Objective:
        if self._searched_in_full():
            return on_base(self, self.folder.trial_weights)
        return Objective.on_proxy(
            self.problem.model_fn,
            self.problem.train,
            plan,
            order.weights,
            order.transfer,
            resolution=order.resolution,
            data=order.data,
            observer=self.observer,
        )

    def _enqueue_first(self, study: optuna.Study) -> None:
        """Queue the points that the search is to begin with and that it has not had yet."""
        there = [trial.user_attrs[FIRST] for trial in study.get_trials(deepcopy=False) if FIRST in trial.user_attrs]
        for point in self.first:
            if point not in there:
                study.enqueue_trial(point, user_attrs={FIRST: point})

    def _work_after_search(self) -> float:
        """The trainings of the full network, in epochs of the proxy; "auto" is taken to be the most that it may be."""
        predicted = self.record["cost"]["trial"]["predicted"]
        if predicted is None:  # a record of an earlier version
            return 0.0
        return float(full_trainings(self.settings.search) * self.settings.study().epochs / predicted["total"])

    def _not_paying(self) -> str:
        """What to know of a search that is not expected to pay."""
        predicted = self.record["cost"]["trial"]["predicted"]
        if self.ascent is not None:
            return ""
        return "" if predicted is None else will_not_pay(self.settings, predicted["total"])

    def _order(self, plan: PruningPlan) -> Order:
        """What workers need; the job is there if the run was started from a configuration."""
        job = self.folder.read_json(self.folder.config)
        settings, pruning, fidelity = self.settings, self.settings.pruning, self.settings.fidelity
        return Order(
            settings.search.trials,
            pruning.weights,
            plan.to_json(),
            pruning.transfer,
            job,
            resolution=fidelity.resolution,
            data=fidelity.data,
        )

    def _check_not_lost(self, study: optuna.Study) -> None:
        """Raise SearchError if the record knows of trials and the study, which may be new, does not."""
        known = sum(((self.record["search"] or {}).get("trials") or {}).values())
        if known and not study.get_trials(deepcopy=False):
            raise SearchError(
                f"the run in {self.folder.path} has had {known} trials, but the study {study.study_name!r} in its "
                "storage has none; give the storage that it was started with, or choose another folder"
            )

    def _test(self) -> None:
        evaluate = self.problem.evaluate
        if evaluate is not None:
            model = self.problem.model_fn()
            load_weights(model, self.folder.weights)
            returned = evaluate(model.eval())
            try:
                self.record["test"] = parts.tested(returned)
            except InputError as error:
                raise InputError(
                    f"{error}; all else is done and in {self.folder.path}, and the same call with another goes on"
                ) from None

    def _write_report(self) -> None:
        """A page that cannot be written is no reason to lose a run: the last event says why."""
        with self.journal.phase("report") as say:
            try:
                say(str(report.write_report(self.folder.path)))
            except Exception as error:
                say(f"the report could not be written ({type(error).__name__}: {error}); everything else is there")

    def _finished_before(self, different: Mapping[str, str]) -> TuneResult:
        """What there is; the winner is tested again where that is done by another function now."""
        self._note_differences(different)
        if EVALUATE in different:
            self._test()
        if different:
            self.journal.save()
        if different or not self.folder.report.exists():
            self._write_report()
        self.observer(PhaseEnded("report", 0.0, f"the run in {self.folder.path} is finished already"))
        return self._result(already_finished=True)

    def _result(self, *, already_finished: bool) -> TuneResult:
        winner = self.record["winner"]
        params = provenance.read_params(self.record, winner["params"])
        return TuneResult(self.folder.path, params, winner["score"], self.record, already_finished)
