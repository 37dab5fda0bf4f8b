"""How far the proxy is to be trusted, in sentences: what may have been missed, and what the confirmation revealed."""

from __future__ import annotations

from prunetune.record.schema import Trust
from prunetune.report.run import Run
from prunetune.report.words import clip, number, percent


def trust_sentences(run: Run) -> tuple[str, ...]:
    """Sentences for the section on the confirmation; none for a run that recorded nothing of it."""
    trust = run.result.trust
    if trust is None:
        return ()
    return tuple(sentence for sentence in (_missed(trust), _order(trust), _transfer(trust)) if sentence)


def _missed(trust: Trust) -> str:
    if trust.missed is None or not trust.searched:
        return ""
    if not trust.confirmed:
        return "The first choice of the proxy was not trained on the full network."
    best = f"among the {trust.confirmed} best" if trust.confirmed > 1 else "the best"
    text = (
        f"The full network's best of the {trust.searched} configurations that were searched is not {best} on the "
        f"proxy with a probability of {percent(trust.missed)} (estimate)"
    )
    if trust.missed_by_full_network is not None:
        text += f"; had the search been on the full network itself, {percent(trust.missed_by_full_network)}"
    text += "."
    believed = trust.believed
    if believed is not None and None not in (believed.value, believed.low, believed.high):
        text += (
            f" This takes the rank correlation to be {believed.value:.2f} [{believed.low:.2f}, {believed.high:.2f}]: "
            f"{clip(trust.basis)}."
        )
    if trust.level is not None and trust.missed >= trust.level:
        text += f" More would have to be confirmed to come below {percent(trust.level)}."
    return text


def _order(trust: Trust) -> str:
    if not trust.pairs:
        return ""
    text = (
        f"Of the {trust.pairs} pairs among them that came to an end on the full network, the proxy had "
        f"{trust.pairs_in_order} in the right order"
        if trust.pairs > 1
        else f"The two that came to an end had the {'same' if trust.pairs_in_order else 'opposite'} order on "
        "both networks"
    )
    found = trust.correlation
    if found is not None and found.n is not None and found.n > 3 and None not in (found.value, found.low, found.high):
        text += f" (Spearman {found.value:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f})"
    return f"{text}."


def _transfer(trust: Trust) -> str:
    """What plain transfer, the proxy's first choice, would have cost."""
    if trust.transfer_regret is not None:
        if trust.compared is not None and trust.compared < 2:
            return ""
        if trust.transfer_regret == 0:
            return "Plain transfer of the proxy's first choice would have found the same winner."
        regret = number(trust.transfer_regret)
        return f"Plain transfer of the proxy's first choice would have cost {regret} of the score."
    if trust.transfer_outcome is None:
        return ""
    how = {"pruned": "was stopped early", "diverged": "diverged"}.get(trust.transfer_outcome, "came to no score")
    return f"The proxy's first choice {how} on the full network."
