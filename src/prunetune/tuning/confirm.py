"""The best of a search on the full network: trained, raced against each other, the winner's weights kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prunetune.backends.study.attributes import PROXY_CURVE
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import finished_trials, open_study, top_trials
from prunetune.errors import SearchError
from prunetune.events import outcome_in_words
from prunetune.record import provenance
from prunetune.record.schema import plain
from prunetune.tuning import parts
from prunetune.tuning.confirmations import confirmations, trust_part
from prunetune.tuning.objective import Objective

if TYPE_CHECKING:
    import optuna
    from torch import nn

    from prunetune.backends.study.study import StudySettings
    from prunetune.backends.study.trial import Report
    from prunetune.events import Phase
    from prunetune.tuning.run import Run

SEARCH_STUDY: Final = "search"  # in the run folder
CONFIRM_STUDY: Final = "confirm"
CONFIRMED: Final = {"search_trial": int, "proxy_score": float}  # user attributes of every trial in there


def confirm(run: Run) -> None:
    """Train the best of the search of ``run`` on the full network; the winner's weights become those of the run."""

    def update() -> None:
        run.journal.lap("confirm")
        run.record["confirmation"] = parts.confirmation_part(confirmed, run.settings.space)
        if asked.race:
            run.record["raced"] = parts.raced_part(confirmed, run.settings.epochs)
        best = next(iter(top_trials(confirmed, 1)), None)
        run.folder.drop_weights(run.folder.trial_weights, best.number if best else None)

    asked = run.settings.search
    phase: Phase = "confirm" if asked.confirm else "train"
    searched, settings = run.settings.study(), confirm_settings(run)
    storage = run.folder.storage
    with (
        open_study(storage, SEARCH_STUDY, searched, observer=run.observer) as study,
        open_study(storage, CONFIRM_STUDY, settings, observer=run.observer, needs=CONFIRMED) as confirmed,
    ):
        run.journal.set_status("confirming")
        stretch = settings.epochs / searched.epochs if asked.race else None
        total = _enqueue(confirmed, top_trials(study, confirmations(run.settings, run.folder, study)), stretch=stretch)
        try:
            run_trials(
                confirmed,
                on_base(run, run.folder.trial_weights),
                settings,
                n_trials=total,
                phase=phase,
                observer=run.journal.after_trials(update),
                retries=0,  # what has no confirmation is queued above, at the next start
                after=float(asked.refine * settings.epochs),
            )
        finally:
            update()
        winner = next(iter(top_trials(confirmed, 1)), None)
        if winner is None:
            ends = ((x["trial"], outcome_in_words(x["outcome"]), x["message"]) for x in run.record["confirmation"])
            fates = "; ".join(f"trial {number} {end}: {message}" for number, end, message in ends)
            raise SearchError(f"no training of the full network came to a score ({fates})")
        measured = parts.measured_part(study, confirmed, searched.epochs, settings.epochs)
        run.record["cost"]["trial"]["measured"] = measured
        run.record["time"].update(parts.estimate_part(study, measured))
        run.record["trust"] = trust_part(run.settings, run.folder, study, confirmed)
        run.journal.lap("confirm")
    chosen = plain(parts.choice(winner.user_attrs["search_trial"], winner, run.settings.space))
    if better(run, chosen, refined_winner(run.record)):
        promote(run, chosen, run.folder.trial_weights(winner.number))
    run.folder.drop_weights(run.folder.trial_weights)


def confirm_settings(run: Run) -> StudySettings:
    """Those of the study with the trainings of the full network: full epochs, and no stopping but the race."""
    pruner = "race" if run.settings.search.race else "none"
    searched = run.settings.study()
    return replace(searched, epochs=run.settings.epochs, optimizer="random", trial_pruner=pruner, rungs="truncated")


def on_base(run: Run, place: Callable[[int], Path]) -> Objective:
    """The objective on the full network; a trial's weights are kept at ``place(number)``."""

    def keep(model: nn.Module, report: Report) -> None:
        run.folder.write_weights(model, place(report.number))

    return Objective(run.problem.model_fn, run.problem.train, keep=keep)


def refined_winner(record: provenance.Record) -> provenance.Record | None:
    """The winner so far, if it is one of the refinement of an earlier start."""
    winner: provenance.Record | None = record["winner"]
    return winner if winner and winner.get("refine_trial") else None


def better(run: Run, new: provenance.Record, old: provenance.Record | None) -> bool:
    """Whether the score of ``new`` is better than that of ``old``, if there is an old one."""
    sign = 1.0 if run.settings.search.direction == "maximize" else -1.0
    return old is None or sign * (new["score"] - old["score"]) > 0


def promote(run: Run, winner: provenance.Record, weights: Path) -> None:
    """Make ``winner`` and its ``weights`` those of the run. Where they are gone they were promoted before.

    The record is first: what is killed in between finds the file beside it at the next start.
    """
    if not weights.exists() and not run.folder.weights.exists():
        raise SearchError(f"the winner's weights, {weights}, are gone; choose another run folder")
    run.record["winner"] = winner
    run.journal.save()
    run.journal.write_best("base", winner)
    if weights.exists():
        os.replace(weights, run.folder.weights)


def _enqueue(confirmed: optuna.Study, candidates: list[optuna.trial.FrozenTrial], *, stretch: float | None) -> int:
    """Queue those ``candidates`` that have no confirmation yet; returns how many trials there will be in all.

    For the race, how they learned on the proxy is noted, an epoch there being ``stretch`` epochs; None for no race.

    Where all were tried and none came to a score, all are queued again, with new seeds: this is another start, and
    the search is worth more than what failed.
    """
    from optuna.trial import TrialState

    finished = finished_trials(confirmed)
    waiting = confirmed.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    tried = {trial.user_attrs["search_trial"] for trial in (*finished, *waiting)}
    again = not waiting and not top_trials(confirmed, 1) and tried.issuperset(trial.number for trial in candidates)
    queued = [trial for trial in candidates if again or trial.number not in tried]
    for trial in queued:
        notes: dict[str, Any] = {"search_trial": trial.number, "proxy_score": trial.value}
        if stretch is not None:
            notes[PROXY_CURVE] = [(step * stretch, score) for step, score in sorted(trial.intermediate_values.items())]
        confirmed.enqueue_trial(trial.params, user_attrs=notes)
    return len(finished) + len(waiting) + len(queued)
