"""The ladder of a run as the report shows it: the scores of every rung, in sentences and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prunetune.record.schema import RungPart
from prunetune.report.run import Run
from prunetune.report.words import clip, duration, number

CUSTOMARY: Final = "50 trials of TPE with Hyperband"


@dataclass(frozen=True)
class Climb:
    """A rung, the score of every configuration on it by its number, and the seconds of all its trainings."""

    rung: RungPart
    scores: Mapping[int, float | None]
    seconds: float


def climbs(run: Run) -> list[Climb]:
    """All rungs from the first to the full network; none for a run without a ladder."""
    ladder = run.result.ladder
    if ladder is None:
        return []
    scored = ("complete", "pruned")
    first = {trial.number: trial.score if trial.outcome in scored else None for trial in run.trials}
    search = run.result.search
    between = {each.study: each for each in run.result.climbs}
    found = []
    for place, rung in enumerate(ladder.rungs):
        if place == 0:
            found.append(Climb(rung, first, (search.seconds if search else None) or 0.0))
        elif rung.study in between:
            there = between[rung.study]
            found.append(Climb(rung, {each.trial: each.score for each in there.trained}, there.seconds))
        elif place == len(ladder.rungs) - 1:
            rows = run.result.confirmation or ()
            scores = {row.trial: row.base_score for row in rows}
            found.append(Climb(rung, scores, sum(row.seconds or 0.0 for row in rows)))
    return found


def cost_sentence(run: Run) -> str:
    """What the search cost, beside the customary one; empty for a run that has not come so far."""
    ladder = run.result.ladder
    if ladder is None or ladder.total is None or ladder.customary is None:
        return ""
    would = run.result.time.search_on_base_estimate if run.result.time else None
    took = None if would is None else would * ladder.total / ladder.customary
    return (
        f"The search cost {ladder.total:.3g} full trainings ({duration(took)}) as measured, the winner's own included; "
        "what is no training (cutting, timing, storage, reports) is not counted. The customary search, "
        f"{CUSTOMARY} on the full network, would have cost "
        f"about {ladder.customary:.0f} ({duration(would)})."
    )


def ladder_sentences(run: Run) -> tuple[str, ...]:
    """Why the ladder has this shape, and what its rungs said about each other."""
    ladder = run.result.ladder
    if ladder is None:
        return ()
    told = [each.agreement.sentence for each in run.result.climbs if each.agreement is not None]
    return tuple(clip(sentence, 400) for sentence in (*ladder.reasons, *told, *passed_over(run)))


def passed_over(run: Run) -> list[str]:
    """Why one went up from a rung though another, which stayed, had a better score there."""
    rungs, said = climbs(run), []
    controls = {row.trial for each in run.result.climbs for row in each.trained if row.control}
    for place, (below, here, above) in enumerate(zip(rungs, rungs[1:], rungs[2:], strict=False), 2):
        scores = {trial: score for trial, score in here.scores.items() if score is not None}
        before = {trial: score for trial in scores if (score := below.scores.get(trial)) is not None}
        went = [trial for trial in scores if trial in above.scores and trial not in controls]
        stayed = [trial for trial in scores if trial not in above.scores]
        judged = run.result.climbs[place - 2].agreement
        left = judged is not None and judged.decision in ("widen", "leave")
        if not went or not stayed or left or before.keys() != scores.keys():
            continue
        last, first = (
            max(went, key=lambda it: run.rank_key(scores[it])),
            min(stayed, key=lambda it: run.rank_key(scores[it])),
        )
        if run.rank_key(scores[first]) >= run.rank_key(scores[last]):
            continue
        ranks, ranks_below = _ranks(run, scores), _ranks(run, before)
        sums = {trial: ranks[trial] + ranks_below[trial] / 2 for trial in scores}
        each = [f"trial {t} {ranks[t]:g} + {ranks_below[t]:g}/2 = {sums[t]:g}" for t in (last, first)]
        tie = "; of equal sums the better on the rung below goes" if sums[last] == sums[first] else ""
        said.append(
            f"From rung {place} trial {last} went up and trial {first} did not, whose score there was better "
            f"({number(scores[first])} against {number(scores[last])}): the ranks on the rung and below make "
            f"{each[0]}, {each[1]}{tie}."
        )
    return said


def _ranks(run: Run, scores: Mapping[int, float]) -> dict[int, float]:
    """By trial, its place among these scores, 1 for the best; equal ones share theirs."""
    from scipy.stats import rankdata  # loaded for few pages only

    ranks = rankdata([run.rank_key(score) for score in scores.values()])
    return dict(zip(scores, map(float, ranks), strict=True))
