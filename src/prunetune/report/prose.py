"""The answer in sentences: what was found, how good it is, what it cost and what it saved."""

from __future__ import annotations

from dataclasses import dataclass

from prunetune._utils.checks import BETTER
from prunetune.record.sentences import PHASES, transfer_sentence
from prunetune.report.run import Run
from prunetune.report.words import NONE, clip, duration, number

STATUS = {
    "searching": "This run has not finished: it is still searching, or was stopped while it did.",
    "confirming": "This run has not finished: it is still confirming, or was stopped while it did.",
    "climbing": "This run has not finished: it is still climbing, or was stopped while it did.",
    "failed": "This run failed. What it had recorded by then is below.",
}


@dataclass(frozen=True)
class Fact:
    """One large figure of the answer, what it is, and how it came about."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Lead:
    """The answer: a warning where the run did not end well, one sentence, one on the transfer, the large figures."""

    warning: str
    sentence: str
    transfer: str
    facts: tuple[Fact, ...]


def headline(run: Run) -> str:
    """The page's title."""
    return f"prunetune report: {run.name}"


def lead(run: Run) -> Lead:
    """The top of the page."""
    status = run.result.status
    warning = "" if run.finished else STATUS.get(status, f"This run has the unknown status “{clip(status)}”.")
    if run.result.error and not run.finished:
        warning += f" It ended with {clip(run.result.error)}."
    return Lead(warning, _sentence(run), _transfer(run), tuple(fact for fact in _facts(run) if fact.value != NONE))


def _sentence(run: Run) -> str:
    chosen = run.chosen
    if chosen is None:
        return "No trial has been completed, so there are no best hyperparameters yet."
    name = f"Trial {chosen.trial}" if chosen.trial is not None else "One configuration"
    if run.result.winner is None:
        return f"{name} is the best on {run.first} so far; nothing has been decided on the full network."
    if run.rungs == 1:
        return f"{name} won: the best of {len(run.trials)} configurations, all of them trained on the full network."
    name += f" won for {clip(run.task, 80)}" if run.task else " won"
    trained = [row for row in run.result.confirmation or () if row.base_score is not None]
    first = run.result.ladder.rungs[0].entrants if run.result.ladder else len(run.trials)
    if len(trained) == 1:
        return f"{name}: the only one of {first} configurations that went up the whole ladder, to the full network."
    return f"{name}: the best of {len(trained)} on the full network, which went up from {first} configurations."


def _transfer(run: Run) -> str:
    """By which rule the proxy took the hyperparameters; nothing of records that do not say it."""
    search = run.result.search
    rule = run.result.pruning.transfer if run.result.pruning else None
    if rule is None or search is None or search.param_groups is None or run.rungs == 1:
        return ""
    said = transfer_sentence(clip(rule), search.param_groups, search.trials.get("complete", 0))
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _facts(run: Run) -> list[Fact]:
    result = run.result
    facts = [_score(run)]
    facts += [_test(name, value) for name, value in (result.test or {}).items()]
    time = result.time
    if time:
        spent = tuning_seconds(run)
        facts.append(Fact("time to tune" if run.finished else "time so far", duration(spent), _phases(run)))
        if time.search_on_base_estimate is not None:
            estimate = f"≈ {duration(time.search_on_base_estimate)}"
            other = run.compared_with.removeprefix("the ")
            facts.append(Fact(other, estimate, "an estimate; how it was made is said below"))
            if run.finished:
                facts.append(saving(spent, time.search_on_base_estimate))
    if result.ladder and result.ladder.total is not None and result.ladder.customary is not None:
        beside = f"the customary search would have cost about {result.ladder.customary:.0f}"
        facts.insert(1, Fact("cost", f"{result.ladder.total:.3g} full trainings", beside))
    return facts


def _test(name: str, value: float | None) -> Fact:
    return Fact(f"test {name}", number(value), "of the full network")


def _score(run: Run) -> Fact:
    chosen = run.chosen
    if chosen is None:
        return Fact("validation score", NONE)
    on_base = any(run.won(row) for row in run.result.confirmation or ())
    where = f"on {'the full network' if on_base else run.first}"
    return Fact("validation score", number(chosen.score), f"{where}; {BETTER[run.result.direction]}")


def tuning_seconds(run: Run) -> float | None:
    """Seconds that finding the hyperparameters took, from pruning to the last rung."""
    time = run.result.time
    phases = [getattr(time, phase) for phase in PHASES] if time else ()
    known = [seconds for seconds in phases if seconds is not None]
    return sum(known) if known else None


def _phases(run: Run) -> str:
    time = run.result.time
    if time is None:
        return ""
    parts = [("pruning", time.prune), ("rung 1", time.search), ("the rungs between", time.climb)]
    parts.append(("the last rung", time.confirm))
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts if seconds)


def saving(spent: float | None, estimate: float) -> Fact:
    """How many times faster tuning was than the estimate, also where it was slower."""
    if not spent or not estimate:
        return Fact("saved", NONE)
    if estimate >= spent:
        return Fact("saved (estimate)", duration(estimate - spent), f"{estimate / spent:.2g} times faster")
    return Fact("lost (estimate)", duration(spent - estimate), f"{spent / estimate:.2g} times slower: no gain here")
