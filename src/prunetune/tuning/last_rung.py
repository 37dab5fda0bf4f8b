"""The last rung: the best of the one below trained in full on the full network, and the winner's weights kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from prunetune.backends.study.attributes import SEARCH_TRIAL
from prunetune.backends.study.claims import nobody
from prunetune.backends.study.study import outcome, top_trials
from prunetune.errors import SearchError
from prunetune.events import outcome_in_words
from prunetune.record.schema import plain
from prunetune.tuning import parts
from prunetune.tuning.ascent import Ascent
from prunetune.tuning.customary import CUSTOMARY_TRIALS, customary_trainings
from prunetune.tuning.rung_study import CONFIRM_STUDY, SEARCH_STUDY, nothing_at_work, rung_study

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from prunetune.events import Phase
    from prunetune.record.provenance import Record
    from prunetune.tuning.run import TuningRun


def train_in_full(run: TuningRun, ascent: Ascent) -> None:
    """Train on the full network those who come up to it; the winner's weights become those of the run."""

    def update() -> None:
        run.journal.lap("confirm")
        run.record["confirmation"] = [*parts.confirmation_part(study, run.settings.space), *others]
        best = next(iter(top_trials(study, 1)), None)
        drop_losers(run, study, best)

    last = ascent.last
    settings = replace(ascent.settings(last), optimizer="random", trial_pruner="none")
    coming = ascent.coming(last)
    alone = len(coming) == 1 and run.others_train is nobody
    with rung_study(run, CONFIRM_STUDY, settings) as study:
        run.journal.set_status("confirming")
        others = _of_elsewhere(run.record["confirmation"], parts.confirmation_part(study, run.settings.space))
        phase: Phase = "train" if alone else "confirm"
        ascent.train_on(last, study, settings, ascent.among(last, study, coming), update, phase, alone=alone)
        nothing_at_work(run, study)
        best = next(iter(top_trials(study, 1)), None)
        if best is not None:
            _sum_up(run, study)
        run.journal.lap("confirm")
    if best is None:
        ends = ((x["trial"], outcome_in_words(x["outcome"]), x["message"]) for x in run.record["confirmation"])
        fates = "; ".join(f"trial {number} {end}: {message}" for number, end, message in ends)
        raise SearchError(f"no training of the full network came to a score ({fates})")
    chosen = plain(parts.choice(best.user_attrs[SEARCH_TRIAL], best, run.settings.space))
    winner = run.record["winner"]
    if winner is None or _is_same(chosen, winner) or _is_better(run, chosen, winner):
        _promote(run, chosen, run.folder.trial_weights(best.number))
    run.folder.drop_weights()


def crown(run: TuningRun) -> bool:
    """Make the best of a search on the full network the winner; False where its weights were not kept in the folder."""
    with rung_study(run, SEARCH_STUDY, run.settings.study()) as study:
        nothing_at_work(run, study)
        best = top_trials(study, 1)[0]
        chosen = plain(parts.choice(best.number, best, run.settings.space))
        if not run.folder.trial_weights(best.number).exists() and run.record["winner"] != chosen:
            return False
        _promote(run, chosen, run.folder.trial_weights(best.number))
        _sum_up(run, study)
    run.folder.drop_weights()
    return True


def drop_losers(run: TuningRun, study: optuna.Study, best: optuna.trial.FrozenTrial | None) -> None:
    """Delete the weights of trials that have ended and are not the best; those of others may just be written."""
    ended = [trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    run.folder.drop_weights(number for number in ended if best is None or number != best.number)


def _sum_up(run: TuningRun, trained: optuna.Study) -> None:
    """Write down what the rungs took in full trainings, and about what the customary search would have taken."""
    ended = [trial for trial in trained.get_trials(deepcopy=False) if outcome(trial) == "complete"]
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


def _of_elsewhere(recorded: Sequence[Record], there: Sequence[Record]) -> list[Record]:
    """Entries of trainings that are not in the study: what version 0.1 refined, whose numbers another may have now."""
    known = {(each["trial"], each["base_score"]) for each in there}
    return [each for each in recorded if (each["trial"], each["base_score"]) not in known]


def _is_same(new: Record, old: Record) -> bool:
    """Whether it is the same training; older records do not say its seed."""
    return bool((new["trial"], new["score"]) == (old["trial"], old["score"]))


def _is_better(run: TuningRun, new: Record, old: Record) -> bool:
    sign = 1.0 if run.settings.search.direction == "maximize" else -1.0
    return bool(sign * (new["score"] - old["score"]) > 0)


def _promote(run: TuningRun, winner: Record, weights: Path) -> None:
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
