"""A few more trials on the full network, begun with what the proxy and the confirmation told (decision 22)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Final

from prunetune._utils.seeds import derive_seed
from prunetune.backends import SearchSpace
from prunetune.backends.given import optimizer_name
from prunetune.backends.study.attributes import SAME_NETWORK, TOLD
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.shrink_space import FEWEST, holds, narrowed
from prunetune.backends.study.study import open_study, outcome, top_trials
from prunetune.record.schema import plain
from prunetune.tuning import parts
from prunetune.tuning.ascent import CAME_UP, CONFIRM_STUDY, SEARCH_STUDY
from prunetune.tuning.confirm import better, confirm_settings, on_base, promote

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from prunetune.tuning.run import TuningRun

REFINE_STUDY: Final = "refine"  # in the run folder
QUARTER: Final = 4
BASE: Final = SAME_NETWORK
PROXY: Final = "proxy"


def refine(run: TuningRun) -> None:
    """Run the trials on the full network that ``run`` asks for; one that beats the winner takes its place."""

    def update() -> None:
        run.journal.lap("refine")
        run.record["refinement"].update(trials=parts.refined_part(refined, settings.space))
        if asked.race:
            run.record["refinement"].update(raced=parts.raced_part(refined, run.settings.epochs))
        best = next(iter(top_trials(refined, 1)), None)
        run.folder.drop_weights(run.folder.refined_weights, best.number if best else None)

    asked, searched = run.settings.search, run.settings.study()
    if not asked.refine:
        return
    storage = run.folder.storage
    with (
        open_study(storage, SEARCH_STUDY, searched, observer=run.observer) as study,
        open_study(storage, CONFIRM_STUDY, confirm_settings(run), observer=run.observer, needs=CAME_UP) as confirmed,
    ):
        run.record.setdefault("refinement", {"space": refined_space(study, confirmed, run.settings.space).to_dict()})
        run.journal.set_status("refining")  # which writes the ranges down before there is a study with them
        settings = replace(
            confirm_settings(run),
            space=SearchSpace.from_dict(run.record["refinement"]["space"]),
            optimizer=optimizer_name(asked.optimizer),
            seed=derive_seed(run.settings.seed, REFINE_STUDY, 0),
        )
        with open_study(storage, REFINE_STUDY, settings, observer=run.observer) as refined:
            run.record["refinement"]["told"] = tell(refined, study, confirmed, settings.space)
            objective = on_base(run, run.folder.refined_weights)
            try:
                run_trials(
                    refined,
                    objective,
                    settings,
                    n_trials=asked.refine,
                    phase="refine",
                    distinct=True,
                    observer=run.journal.after_trials(update),
                )
            finally:
                update()
            best = next(iter(top_trials(refined, 1)), None)
            chosen = best and plain(parts.refined_choice(refined, best, settings.space))
    if best and chosen and (better(run, chosen, run.record["winner"]) or chosen == run.record["winner"]):
        promote(run, chosen, run.folder.refined_weights(best.number))
    run.folder.drop_weights(run.folder.refined_weights)


def refined_space(study: optuna.Study, confirmed: optuna.Study, space: SearchSpace) -> SearchSpace:
    """The part of ``space`` around the best quarter of the complete trials on the proxy, and what was confirmed.

    It is the quarter rounded up, and four where there are as many.
    """
    complete = top_trials(study, len(study.get_trials(deepcopy=False)))
    best = complete[: max(FEWEST, math.ceil(len(complete) / QUARTER))]
    tried = [trial for trial in confirmed.get_trials(deepcopy=False) if outcome(trial) is not None and trial.params]
    known = {tuple(trial.params.items()): space.plain(trial.params) for trial in (*best, *tried)}
    return narrowed(space, list(known.values()))


def tell(refined: optuna.Study, study: optuna.Study, confirmed: optuna.Study, space: SearchSpace) -> dict[str, int]:
    """Add to ``refined`` what its sampler is to know and does not; returns how many trials it knows, by network.

    The trainings of the full network are told as they ended. What was complete on the proxy only is told with its score
    there, moved by the median difference of the two networks' scores, so that it is neither better nor worse by nature.
    """
    from optuna.trial import TrialState

    ended = confirmed.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    both = [trial for trial in ended if outcome(trial) == "complete"]
    shift = median(_value(trial) - trial.user_attrs["proxy_score"] for trial in both)
    tried = {trial.user_attrs["search_trial"] for trial in confirmed.get_trials(deepcopy=False)}
    proxies = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if outcome(trial) == "complete" and trial.number not in tried
    ]
    _add(refined, ((each.user_attrs["search_trial"], each, each.value) for each in ended), BASE, space)
    _add(refined, ((each.number, each, _value(each) + shift) for each in proxies), PROXY, space)
    told = [trial.user_attrs.get(TOLD) for trial in refined.get_trials(deepcopy=False)]
    return {network: told.count(network) for network in (BASE, PROXY)}


def _add(
    refined: optuna.Study,
    trials: Iterable[tuple[int, FrozenTrial, float | None]],
    network: str,
    space: SearchSpace,
) -> None:
    """Add trials of the search's numbers, with these scores, that lie in ``space`` and are not there yet."""
    from optuna.trial import TrialState, create_trial

    there = {
        (trial.user_attrs[TOLD], trial.user_attrs["search_trial"])
        for trial in refined.get_trials(deepcopy=False)
        if TOLD in trial.user_attrs
    }
    for number, trial, score in trials:
        stopped = trial.state == TrialState.PRUNED
        if (network, number) in there or not holds(space, trial.params):
            continue
        if not stopped and (score is None or not math.isfinite(score)):  # diverged before there was any score
            continue
        refined.add_trial(
            create_trial(
                state=trial.state,
                value=None if stopped else score,
                params=trial.params,
                distributions=space.to_optuna(),
                intermediate_values=trial.intermediate_values if network == BASE else {},
                user_attrs={TOLD: network, "search_trial": number, "outcome": outcome(trial)},
            )
        )


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
