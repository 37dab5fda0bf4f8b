"""The best of a search on the full network: trained, raced against each other, the winner's weights kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import open_study, outcome, top_trials
from prunetune.errors import SearchError
from prunetune.events import outcome_in_words
from prunetune.record import provenance
from prunetune.record.schema import plain
from prunetune.tuning import parts
from prunetune.tuning.ascent import CAME_UP, CONFIRM_STUDY, SEARCH_STUDY, Climber, climbers, enqueue, in_order
from prunetune.tuning.confirmations import confirmations, trust_part
from prunetune.tuning.objective import Objective
from prunetune.tuning.saving import CUSTOMARY_TRIALS, customary_trainings

if TYPE_CHECKING:
    import optuna
    from torch import nn

    from prunetune.backends.study.study import StudySettings
    from prunetune.backends.study.trial import Report
    from prunetune.events import Phase
    from prunetune.tuning.run import TuningRun


def confirm(run: TuningRun) -> None:
    """Train the best of the search of ``run`` on the full network; the winner's weights become those of the run."""

    def update() -> None:
        run.journal.lap("confirm")
        run.record["confirmation"] = parts.confirmation_part(confirmed, run.settings.space)
        if asked.race:
            run.record["raced"] = parts.raced_part(confirmed, run.settings.epochs)
        best = next(iter(top_trials(confirmed, 1)), None)
        run.folder.drop_weights(run.folder.trial_weights, best.number if best else None)

    asked = run.settings.search
    alone = run.ascent is not None and asked.confirm == 1
    phase: Phase = "train" if alone or not asked.confirm else "confirm"
    searched, settings = run.settings.study(), confirm_settings(run)
    storage = run.folder.storage
    with (
        open_study(storage, SEARCH_STUDY, searched, observer=run.observer) as study,
        open_study(storage, CONFIRM_STUDY, settings, observer=run.observer, needs=CAME_UP) as confirmed,
    ):
        run.journal.set_status("confirming")
        coming, epochs = _coming(run, study)
        total = enqueue(confirmed, coming, stretch=settings.epochs / epochs if asked.race else None)
        climbed = run.ascent if run.ascent is not None and run.ascent.last else None
        try:
            run_trials(
                confirmed,
                on_base(run, run.folder.trial_weights),
                settings,
                n_trials=total if climbed is None else climbed.among(climbed.last, confirmed, coming, total),
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
        if run.ascent is None:
            run.record["time"].update(parts.estimate_part(study, measured))
            run.record["trust"] = trust_part(run.settings, run.folder, study, confirmed)
        else:
            _sum_up(run, confirmed)
        run.journal.lap("confirm")
    chosen = plain(parts.choice(winner.user_attrs["search_trial"], winner, run.settings.space))
    if better(run, chosen, refined_winner(run.record)):
        promote(run, chosen, run.folder.trial_weights(winner.number))
    run.folder.drop_weights(run.folder.trial_weights)


def crown(run: TuningRun) -> bool:
    """Make the best of a search on the full network the winner; False where its weights were not kept in the folder."""
    with open_study(run.folder.storage, SEARCH_STUDY, run.settings.study(), observer=run.observer) as study:
        best = top_trials(study, 1)[0]
        chosen = plain(parts.choice(best.number, best, run.settings.space))
        if not run.folder.trial_weights(best.number).exists() and run.record["winner"] != chosen:
            return False
        promote(run, chosen, run.folder.trial_weights(best.number))
        _sum_up(run, study)
    run.folder.drop_weights(run.folder.trial_weights)
    return True


def _coming(run: TuningRun, study: optuna.Study) -> tuple[list[Climber], int]:
    """Who is trained on the full network, the best first, and the epochs that they have had."""
    if run.ascent is not None and run.ascent.last:
        return run.ascent.coming(run.ascent.last), run.ascent.settings(run.ascent.last - 1).epochs
    searched = run.settings.study()
    order = in_order(climbers(study), (), searched.direction)
    return order[: confirmations(run.settings, run.folder, study)], searched.epochs


def _sum_up(run: TuningRun, confirmed: optuna.Study) -> None:
    """Write down what the rungs took in full trainings, and about what the customary search would have taken."""
    ended = [trial for trial in confirmed.get_trials(deepcopy=False) if outcome(trial) == "complete"]
    full = sum(parts.train_seconds(trial) for trial in ended) / len(ended)
    climbed = sum(each["seconds"] for each in run.record.get("climbs", ()))
    total = run.record["search"]["seconds"] + climbed + sum(x["seconds"] or 0.0 for x in run.record["confirmation"])
    customary = customary_trainings(run.settings.epochs)
    run.record["ladder"].update(customary=customary, total=total / full)
    basis = (
        f"an estimate: about {customary:.3g} full trainings of {full:.4g} s, which {CUSTOMARY_TRIALS} trials of TPE "
        "with Hyperband on the full network and the training of their winner take"
    )
    run.record["time"].update(search_on_base_estimate=customary * full, estimate_basis=basis)


def confirm_settings(run: TuningRun) -> StudySettings:
    """Those of the study with the trainings of the full network: full epochs, and no stopping but the race."""
    pruner = "race" if run.settings.search.race else "none"
    searched = run.settings.study()
    return replace(searched, epochs=run.settings.epochs, optimizer="random", trial_pruner=pruner, rungs="truncated")


def on_base(run: TuningRun, place: Callable[[int], Path]) -> Objective:
    """The objective on the full network; a trial's weights are kept at ``place(number)``."""

    def keep(model: nn.Module, report: Report) -> None:
        run.folder.write_weights(model, place(report.number))

    return Objective(run.problem.model_fn, run.problem.train, keep=keep)


def refined_winner(record: provenance.Record) -> provenance.Record | None:
    """The winner so far, if it is one of the refinement of an earlier start."""
    winner: provenance.Record | None = record["winner"]
    return winner if winner and winner.get("refine_trial") else None


def better(run: TuningRun, new: provenance.Record, old: provenance.Record | None) -> bool:
    """Whether the score of ``new`` is better than that of ``old``, if there is an old one."""
    sign = 1.0 if run.settings.search.direction == "maximize" else -1.0
    return old is None or sign * (new["score"] - old["score"]) > 0


def promote(run: TuningRun, winner: provenance.Record, weights: Path) -> None:
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
