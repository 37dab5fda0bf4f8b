"""The answer in sentences: what was found, how good it is, what it cost and what it saved."""

from __future__ import annotations

from dataclasses import dataclass

from prunetune._utils.checks import BETTER
from prunetune.record.sentences import PHASES, transfer_sentence
from prunetune.report.run import Run
from prunetune.report.words import NONE, clip, duration, number, percent, ratio

STATUS = {
    "searching": "This run has not finished: it is still searching, or was stopped while it did.",
    "confirming": "This run has not finished: it is still confirming, or was stopped while it did.",
    "refining": "This run has not finished: it is still refining, or was stopped while it did.",
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
    if chosen.refine_trial is not None:
        return f"Trial {chosen.refine_trial} of the refinement on the full network won: it beat all that was confirmed."
    name = f"Trial {chosen.trial}" if chosen.trial is not None else "One configuration"
    if run.result.winner is None:
        return f"{name} is the best on {run.first} so far; nothing has been decided on the full network."
    if run.rungs == 1:
        return f"{name} won: the best of {len(run.trials)} configurations, all of them trained on the full network."
    if run.result.confirm == 0:
        return f"{name} was the best on the proxy, and the full network was trained with it without comparison."
    confirmed = [row for row in run.result.confirmation or () if row.base_score is not None]
    if run.result.ladder and len(confirmed) == 1:
        first = run.result.ladder.rungs[0].entrants
        return f"{name} won: the only one of {first} configurations that went up the whole ladder, to the full network."
    if not confirmed:
        return f"{name} was the best on the proxy. It was not compared with others on the full network."
    if run.result.raced and (stopped := run.result.raced.stopped):
        them = "one was" if stopped == 1 else f"{stopped} were"
        everyone = len(confirmed) + stopped
        return f"{name} won: the best of {everyone} on the full network, of which {them} stopped early, clearly behind."
    if len(confirmed) == 1:
        return f"{name} won: the only one that was confirmed on the full network."
    return f"{name} won: the best of {len(confirmed)} configurations that were confirmed on the full network."


def _transfer(run: Run) -> str:
    """By which rule the proxy took the hyperparameters; nothing of records that do not say it."""
    search = run.result.search
    rule = run.result.pruning.transfer if run.result.pruning else None
    if rule is None or search is None or search.param_groups is None:
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
    cost = result.cost
    if result.ladder and result.ladder.total is not None and result.ladder.customary is not None:
        beside = f"the customary search would have cost about {result.ladder.customary:.0f}"
        facts.insert(1, Fact("cost", f"{result.ladder.total:.3g} full trainings", beside))
    if run.rungs:  # whose costs are a table
        return facts
    facts.append(trial_cost(run))
    if cost and cost.base and cost.proxy:
        flops = ratio(cost.base.flops, cost.proxy.flops)
        step = ratio(cost.base.step_seconds, cost.proxy.step_seconds)
        if flops:
            facts.append(
                Fact("FLOPs of the proxy", percent(1 / flops), f"of the full network: {flops:.3g} times fewer")
            )
        if step:
            facts.append(Fact("a step of the proxy", duration(cost.proxy.step_seconds), _step_note(run, step)))
    return facts


def trial_cost(run: Run) -> Fact:
    """What a trial costs beside a full training, measured where that is known, and what its prediction is made of."""
    trial = run.result.cost.trial if run.result.cost else None
    predicted = trial.predicted if trial else None
    if trial is None or predicted is None:
        return Fact("a trial costs", NONE)
    shares = (("step", predicted.step), ("epochs", predicted.epochs), ("data", predicted.data))
    product = " × ".join(f"{name} {percent(share)}" for name, share in shares)
    if trial.measured is None or trial.measured.total is None:
        return Fact("a trial costs (predicted)", percent(predicted.total), f"of a full training: {product}")
    note = f"of a full training, measured; predicted: {percent(predicted.total)} = {product}"
    return Fact("a trial costs", percent(trial.measured.total), note)


def _test(name: str, value: float | None) -> Fact:
    return Fact(f"test {name}", number(value), "of the full network")


def _step_note(run: Run, times: float) -> str:
    cost = run.result.cost
    base = duration(cost.base.step_seconds) if cost and cost.base else NONE
    return f"{times:.3g} times cheaper than {base}" if times >= 1 else f"dearer than the full network's {base}"


def _score(run: Run) -> Fact:
    chosen = run.chosen
    if chosen is None:
        return Fact("validation score", NONE)
    on_base = chosen.refine_trial is not None or any(run.won(row) for row in run.result.confirmation or ())
    where = f"on {'the full network' if on_base else run.first}"
    return Fact("validation score", number(chosen.score), f"{where}; {BETTER[run.result.direction]}")


def tuning_seconds(run: Run) -> float | None:
    """Seconds that finding the hyperparameters took, from pruning to confirmation and refinement."""
    time = run.result.time
    phases = [getattr(time, phase) for phase in PHASES] if time else ()
    known = [seconds for seconds in phases if seconds is not None]
    return sum(known) if known else None


def _phases(run: Run) -> str:
    time = run.result.time
    if time is None:
        return ""
    search, confirm = ("rung 1", "the last rung") if run.rungs else ("search", "confirmation")
    parts = [("pruning", time.prune), (search, time.search), ("the rungs between", time.climb), (confirm, time.confirm)]
    parts.append(("refinement", time.refine))
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts if seconds)


def raced(run: Run) -> str:
    """What the race saved, in a sentence; nothing where there was none."""
    found = run.result.raced
    if found is None or len(run.result.confirmation or ()) == 1:
        return ""
    if not found.stopped:
        return "They raced each other: none was so far behind the best that it was stopped early."
    them = "one was" if found.stopped == 1 else f"{found.stopped} were"
    return (
        f"They raced each other: {them} stopped early, clearly behind the best, which saved "
        f"{number(found.epochs_saved)} epochs on the full network, about {duration(found.seconds_saved)}. What was "
        "stopped early cannot win."
    )


def refinement(run: Run) -> str:
    """Where the refinement looked and what it brought, in sentences; nothing where there was none."""
    found = run.result.refinement
    if found is None:
        return ""
    before = [row.base_score for row in run.result.confirmation or () if row.base_score is not None]
    scores = [row.base_score for row in found.trials if row.base_score is not None]
    many = f"{len(found.trials)} trials were" if len(found.trials) != 1 else "One trial was"
    told = f"{found.told.get('base', 0)} trainings of the full network and {found.told.get('proxy', 0)} of the proxy"
    text = f"{many} run on the full network itself, in ranges around the best; the optimizer was told of {told} before."
    if before and scores:
        best_before, best = (min(each, key=run.rank_key) for each in (before, scores))
        gain = abs(best - best_before)
        won = run.rank_key(best) < run.rank_key(best_before)
        text += f" The best is {number(gain)} {'better than' if won else 'short of'} the best that was confirmed."
    if found.raced and found.raced.stopped:
        saved = f"{number(found.raced.epochs_saved)} epochs, about {duration(found.raced.seconds_saved)}"
        them = "One was" if found.raced.stopped == 1 else f"{found.raced.stopped} were"
        text += f" {them} stopped early, clearly behind, which saved {saved}."
    return text


def saving(spent: float | None, estimate: float) -> Fact:
    """How many times faster tuning was than the estimate, also where it was slower."""
    if not spent or not estimate:
        return Fact("saved", NONE)
    if estimate >= spent:
        return Fact("saved (estimate)", duration(estimate - spent), f"{estimate / spent:.2g} times faster")
    return Fact("lost (estimate)", duration(spent - estimate), f"{spent / estimate:.2g} times slower: no gain here")
