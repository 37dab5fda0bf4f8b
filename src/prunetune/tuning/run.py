"""One run from start or restart to end: what ``prunetune.tune`` does once its arguments are checked."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from prunetune import report
from prunetune._utils.hashes import digest
from prunetune.backends.study.attributes import FIRST
from prunetune.backends.study.claims import nobody
from prunetune.backends.study.notes import direction_warning, study_notes
from prunetune.backends.study.study import top_trials
from prunetune.engine import fresh_proxy
from prunetune.errors import InputError, SearchError
from prunetune.events import (
    Notice,
    Observer,
    PhaseEnded,
    counts_in_words,
)
from prunetune.record import provenance
from prunetune.record.folder import FORMAT, RunFolder, load_weights
from prunetune.record.provenance import Record
from prunetune.record.schema import CostPart, Result
from prunetune.record.stored import read_record
from prunetune.tuning import parts
from prunetune.tuning.architecture import built_for
from prunetune.tuning.ascent import Ascent, begun_ascent, quicker_ascent, read_plans, resumed_ascent
from prunetune.tuning.asked import as_begun, resumed
from prunetune.tuning.energy import Meter
from prunetune.tuning.fingerprint import EVALUATE, Resume, continued, publish_given, sentences
from prunetune.tuning.journal import Journal
from prunetune.tuning.last_rung import crown, drop_losers, train_in_full
from prunetune.tuning.objective import unread_notes
from prunetune.tuning.problem import Problem
from prunetune.tuning.result import TuneResult
from prunetune.tuning.rung_study import SEARCH_STUDY, rung_study
from prunetune.tuning.settings import Settings
from prunetune.tuning.survey import planned, survey, whole
from prunetune.tuning.train_checks import not_read_note
from prunetune.tuning.transfer_notes import transfer_note

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
        others_train: Callable[[], bool] = nobody,
    ) -> None:
        self.problem = problem
        self.settings = settings
        self.folder = folder
        self.observer = observer
        self.journal = Journal(folder, observer, meter)
        self.first = [dict(point) for point in first]
        self.remarks = remarks
        """What is to be said of the network, beside the notes on the search."""
        self.others_train = others_train
        """Whether there are workers who train now, so that this process only looks on."""
        self._ascent: Ascent | None = None

    @property
    def record(self) -> Record:
        """What ``result.json`` holds."""
        return self.journal.record

    @property
    def ascent(self) -> Ascent:
        """The way up the ladder, which has been planned."""
        assert self._ascent is not None
        return self._ascent

    def go(self, base: nn.Module, resume: Resume = "same") -> TuneResult:
        """Do what is left of the run."""
        stored = read_record(self.folder.result)
        if stored is not None:
            asked = as_begun(self.settings, stored)
            for name in ("transfer", "weights"):
                before = getattr(asked.pruning, name)
                if before != getattr(self.settings.pruning, name):
                    self.observer(Notice(f"the run goes on with {name} {before!r}, the default when it was started"))
            self.settings = resumed(asked, stored, self.folder.path)
            self.settings.check_same(stored, self.folder.path)
            self.journal.go_on_with(stored)
        different = self._compared(base, resume)
        if self.record.get("status") == "finished" and self._asks_no_more():
            return self._finished_before(different)
        if self.record:
            self._check_plan()
            self._ascent = resumed_ascent(self)
        else:
            self._survey(base)
        self.record.update(self.settings.numbers())
        self._note_differences(different)
        self.record.setdefault("id", uuid.uuid4().hex)
        with self.journal.recording():
            self._climb_all()
            while (larger := quicker_ascent(self)) is not None:
                self._ascent, before = larger, self.record["search"]["trials"]
                self._climb_all()
                if self.record["search"]["trials"] == before:
                    break
            self._test()
            self.record["status"] = "finished"
        self._write_report()
        return self._result(already_finished=False)

    def _climb_all(self) -> None:
        with self.journal.metered("search"):
            self._search()
            self.ascent.climb()
        with self.journal.metered("confirm"):
            self._train_in_full()

    def _train_in_full(self) -> None:
        if self._searched_in_full() and crown(self):
            return
        if self._searched_in_full():
            self.observer(Notice("a worker trained the best, and workers keep no weights: it is trained again"))
        train_in_full(self, self.ascent)

    def _asks_no_more(self) -> bool:
        """Whether nothing is asked for beyond what the record has: more trials, or a larger budget."""
        return bool(self.record["ladder"]["asked"] == self.settings.asked())

    def _compared(self, base: nn.Module, resume: Resume) -> dict[str, str]:
        """What is different from what the run was started with, and was let pass."""
        self.given = self.problem.fingerprint(base)
        trials = (self.record.get("search") or {}).get("trials") or {}
        known = sum(trials.get(each, 0) for each in ("complete", "pruned", "diverged"))
        return continued(self.folder, self.given, resume=resume, observer=self.observer, known=known, evaluate=True)

    def _note_differences(self, different: Mapping[str, str]) -> None:
        if noted := sentences({name: each for name, each in different.items() if name != EVALUATE}):
            self.record["anyway"] = [*self.record.get("anyway", []), *noted]

    def _searched_in_full(self) -> bool:
        """Whether the only rung is the full network's, so that nothing needs to be trained again."""
        return not self.ascent.last

    def _survey(self, base: nn.Module) -> None:
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
        steps = {"base": found.seconds[1.0], "proxy": found.seconds.get(first.width, found.seconds[1.0])}
        self._begin(base, result, parts.cost_part(result, steps))
        self._ascent = begun_ascent(self, made, found)

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
                    "pruning": parts.pruning_part(asked["pruning"], result, digest(plan_text)),
                },
                cost=cost,
            )
        )
        self.folder.write_text(self.folder.plan, plan_text)
        self.journal.save()

    def _check_plan(self) -> None:
        """Raise PlanError here and now if it is another network than the run was started with."""
        plans = read_plans(self.folder.plan, self.record["pruning"]["plan_sha256"])
        fresh_proxy(self.problem.model_fn, plans.usual)

    def _search(self) -> None:
        pruning, settings = self.settings.pruning, self.settings.study()

        def update() -> None:
            self.journal.lap("search")
            mistakes = (not_read_note(parts.not_read(study)), *unread_notes(study))
            narrower = self.ascent.plan.ladder.rungs[0].width != 1
            transfer = transfer_note(study, pruning.transfer) if narrower else ""
            extra = (transfer, *mistakes, *self.record.get("anyway", ()))
            before = (*study_notes(study, settings, self.settings.trials), *self.remarks)
            notes = (*before, *extra, direction_warning(study))
            self.record["search"] = parts.search_part(study, self.settings.space, [note for note in notes if note])
            if self._searched_in_full():
                drop_losers(self, study, next(iter(top_trials(study, 1)), None))

        with rung_study(self, SEARCH_STUDY, settings) as study:
            self._check_not_lost(study)
            publish_given(study, self.given)
            self._enqueue_first(study)
            self.journal.set_status("searching")
            self.ascent.train_on(0, study, settings, lambda: self.ascent.limit(0, study), update, "search")
        if self.record["search"]["best"] is None:
            counts = counts_in_words(self.record["search"]["trials"])
            raise SearchError(f"no training on the first rung came to a score; {counts}")
        self.journal.write_best("proxy", self.record["search"]["best"])

    def _enqueue_first(self, study: optuna.Study) -> None:
        """Queue the points that the search is to begin with and that it has not had yet."""
        there = [trial.user_attrs[FIRST] for trial in study.get_trials(deepcopy=False) if FIRST in trial.user_attrs]
        for point in self.first:
            if point not in there:
                study.enqueue_trial(point, user_attrs={FIRST: point})

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
            params = provenance.read_params(self.record, self.record["winner"]["params"])
            model = built_for(self.problem.model_fn, params)()
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
