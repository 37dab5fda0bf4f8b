"""The best of a search on the full network: trained, compared, the winner's weights kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from prunetune import record as parts
from prunetune.errors import SearchError
from prunetune.trust import confirmations, trust_part
from prunetune.workers import ModelFunction, TrainFunction, seed_all, timed

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.trial import Report
    from prunetune.events import Phase
    from prunetune.run import Run
    from prunetune.runfolder import RunFolder

SEARCH_STUDY: Final = "search"  # in the run folder
CONFIRM_STUDY: Final = "confirm"


def confirm(run: Run) -> None:
    """Train the best of the search of ``run`` on the full network; the winner's weights become those of the run."""
    from prunetune.backends.loop import run_trials
    from prunetune.backends.study import open_study, top_trials

    def update() -> None:
        run.lap("confirm")
        run.record["confirmation"] = parts.confirmation_part(confirmed, run.settings.space)
        best = top_trials(confirmed, 1)
        for path in run.folder.all_trial_weights():
            if not best or path != run.folder.trial_weights(best[0].number):
                path.unlink()

    asked = run.settings.search
    phase: Phase = "confirm" if asked.confirm else "train"
    searched = run.settings.study()
    settings = replace(searched, epochs=run.settings.epochs, optimizer="random", trial_pruner="none", rungs="truncated")
    storage = run.folder.storage
    with (
        open_study(storage, SEARCH_STUDY, searched) as study,
        open_study(storage, CONFIRM_STUDY, settings, observer=run.observer) as confirmed,
    ):
        run.set_status("confirming")
        total = _enqueue(confirmed, top_trials(study, confirmations(run.settings, run.folder, study)))
        try:
            run_trials(
                confirmed,
                on_base(run.model_fn, run.train, run.folder),
                settings,
                n_trials=total,
                phase=phase,
                observer=run.after_trials(update),
                retries=0,  # what has no confirmation is queued above, at the next start
            )
        finally:
            update()
        winner = next(iter(top_trials(confirmed, 1)), None)
        if winner is None:
            fates = "; ".join(f"trial {x['trial']} {x['outcome']}: {x['message']}" for x in run.record["confirmation"])
            raise SearchError(f"no training of the full network came to a score ({fates})")
        measured = parts.measured_part(study, confirmed, searched.epochs, settings.epochs)
        run.record["cost"]["trial"]["measured"] = measured
        run.record["time"].update(parts.estimate_part(study, measured))
        run.record["trust"] = trust_part(run.settings, run.folder, study, confirmed)
    _promote(run, winner)


def on_base(
    model_fn: ModelFunction, train: TrainFunction, folder: RunFolder
) -> Callable[[dict[str, Any], Report], float]:
    """The objective on the full network, everything random seeded; its weights are kept in ``folder``."""
    from prunetune.transfer.groups import plain_groups

    def objective(params: dict[str, Any], report: Report) -> float:
        seed_all(report.seed)
        report.give_groups(plain_groups)
        model = model_fn()
        score = timed(train, model, params, report)
        folder.write_weights(model, folder.trial_weights(report.number))
        return score

    return objective


def _promote(run: Run, winner: optuna.trial.FrozenTrial) -> None:
    """Make the winner's weights those of the run."""
    weights = run.folder.trial_weights(winner.number)
    if weights.exists():
        os.replace(weights, run.folder.weights)
    elif not run.folder.weights.exists():
        raise SearchError(f"the winner's weights, {weights}, are gone; choose another run folder")
    run.record["winner"] = parts.choice(winner.user_attrs["search_trial"], winner, run.settings.space)
    run.write_best("base", run.record["winner"])


def _enqueue(confirmed: optuna.Study, candidates: list[optuna.trial.FrozenTrial]) -> int:
    """Queue those ``candidates`` that have no confirmation yet; returns how many trials there will be in all.

    Where all were tried and none came to a score, all are queued again, with new seeds: this is another start, and
    the search is worth more than what failed.
    """
    from optuna.trial import TrialState

    from prunetune.backends.study import finished_trials, top_trials

    finished = finished_trials(confirmed)
    waiting = confirmed.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    tried = {trial.user_attrs["search_trial"] for trial in (*finished, *waiting)}
    again = not waiting and not top_trials(confirmed, 1) and tried.issuperset(trial.number for trial in candidates)
    queued = [trial for trial in candidates if again or trial.number not in tried]
    for trial in queued:
        notes = {"search_trial": trial.number, "proxy_score": trial.value}
        confirmed.enqueue_trial(trial.params, user_attrs=notes)
    return len(finished) + len(waiting) + len(queued)
