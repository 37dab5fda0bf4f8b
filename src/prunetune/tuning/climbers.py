"""Configurations on a rung: how their trainings ended, who goes on, and queueing these for the rung above."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prunetune.backends.samplers.history import unrepeated
from prunetune.backends.study.attributes import GIVEN_UP, PROXY_SCORE, SEARCH_TRIAL
from prunetune.backends.study.claims import is_finished, may_be_repeated
from prunetune.backends.study.study import discounted, outcome, top_trials
from prunetune.events import outcome_in_words
from prunetune.ladder.promotion import RungResult, ranked

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from prunetune._utils.checks import Direction

CAME_UP: Final = {SEARCH_TRIAL: int, PROXY_SCORE: float}
"""User attributes of every trial above the first rung: its number there, and its score on the rung below."""


@dataclass(frozen=True)
class Climber:
    """A configuration on a rung, and how its training there ended."""

    number: int
    """That of its trial on the first rung."""
    params: Mapping[str, Any]
    result: RungResult[int]


def climbers(study: optuna.Study) -> list[Climber]:
    """All that were trained in the study of a rung, by their numbers on the first; of several trainings the last."""
    found = {}
    for trial in study.get_trials(deepcopy=False):
        ended = outcome(trial)
        if ended in ("complete", "pruned", "diverged", "failed") and trial.params:
            number = trial.user_attrs.get(SEARCH_TRIAL, trial.number)
            reported = trial.intermediate_values
            last = reported[max(reported)] if reported else None
            score = trial.value if ended == "complete" else last
            found[number] = Climber(number, trial.params, RungResult(number, score, ended))
    return list(found.values())


def in_order(here: Iterable[Climber], below: Iterable[Climber], direction: Direction) -> list[Climber]:
    """All that may go on, the best first, see ``ladder.promotion``; of those with the same hyperparameters the best."""
    there = {each.number: each for each in here}
    order = ranked([each.result for each in there.values()], [each.result for each in below], direction=direction)
    found: dict[str, Climber] = {}
    for number in order:
        found.setdefault(json.dumps(dict(there[number].params), sort_keys=True), there[number])
    return list(found.values())


def enqueue(study: optuna.Study, coming: Sequence[Climber], *, start: bool = False) -> int:
    """Queue those that were not trained in ``study`` yet; returns how many trials there will be in all.

    At the ``start`` also those whose workers died too often. Where all were tried and none came to a score, all are
    queued again, with new seeds: this is another start, and the search is worth more than what failed.
    """
    finished, going, given_up = _read(study)
    gone = [] if start else given_up
    tried = {trial.user_attrs[SEARCH_TRIAL] for trial in (*finished, *going, *gone)}
    again = start and not going and not top_trials(study, 1) and tried.issuperset(each.number for each in coming)
    queued = [each for each in coming if again or each.number not in tried]
    for each in queued:
        notes = {SEARCH_TRIAL: each.number, PROXY_SCORE: each.result.score}
        study.enqueue_trial(dict(each.params), user_attrs=notes)
    return len(finished) + len(going) + len(queued)


def expected(study: optuna.Study) -> int:
    """How many trials of a rung above the first there will be of those that its study knows of."""
    finished, going, _ = _read(study)
    return len(finished) + len(going)


def _read(study: optuna.Study) -> tuple[list[FrozenTrial], list[FrozenTrial], list[FrozenTrial]]:
    """Trials that count as ended; that wait, run, or are tried again since their worker died; whose worker died.

    All from one reading: what ended between two of them would be in neither list, and be trained again.
    """
    free = discounted(study)
    trials = [trial for trial in study.get_trials(deepcopy=False) if SEARCH_TRIAL in trial.user_attrs]
    finished = [trial for trial in trials if is_finished(trial) and trial.number not in free]
    again = [trial for trial in unrepeated(trials) if may_be_repeated(trial)]
    going = [trial for trial in trials if not trial.state.is_finished()] + again
    return finished, going, [trial for trial in trials if trial.user_attrs.get(GIVEN_UP)]


def fates(there: Sequence[Climber]) -> str:
    """How each ended, in words."""
    return "; ".join(f"trial {each.number} {outcome_in_words(each.result.outcome)}" for each in there)
