"""What a reader may do next: where the weights are, which range was too narrow, which rung ranked badly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from prunetune.report.run import Run
from prunetune.report.words import clip, number

NEAR: Final = 0.05
"""So near an end of its range, as a share of it, a winner's value suggests that better ones lie beyond."""


def next_steps(run: Run) -> list[str]:
    """Sentences for a run that has a winner; none for others."""
    if run.result.winner is None:
        return []
    beyond = [sentence for name, value in run.best_params.items() if (sentence := beyond_the_range(run, name, value))]
    return [_weights(run), *beyond, *_judges(run), *_unseen(run)]


def beyond_the_range(run: Run, name: str, value: Any) -> str:
    """What to search next, where the winner's value lies at an end of its range; empty where it does not."""
    place = place_in_range((run.result.space or {}).get(name), value)
    if place is None or NEAR < place < 1 - NEAR:
        return ""
    end, more = ("lower", "smaller") if place <= NEAR else ("upper", "larger")
    return (
        f"{clip(name, 60)} = {number(value)} is at the {end} end of its range: search {more} values, too, if they make "
        "sense."
    )


def place_in_range(dimension: Any, value: Any) -> float | None:
    """Where a number lies in its range, 0 at the lower end and 1 at the upper; None for what has no ends.

    >>> round(place_in_range({"low": 0.01, "high": 1.0, "log": True}, 0.1), 3)
    0.5
    """
    if not isinstance(dimension, Mapping) or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = dimension.get("low"), dimension.get("high")
    if not isinstance(low, int | float) or not isinstance(high, int | float) or not low < high:
        return None
    if dimension.get("log"):
        if min(low, value) <= 0:
            return None
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def _weights(run: Run) -> str:
    folder = f"path/to/{run.name}"
    return (
        f"The trained network is in weights.safetensors; prunetune.retrain({folder!r}, model_fn, train) trains it "
        "again, with another seed, say, to see how much of the score is luck."
    )


def _judges(run: Run) -> list[str]:
    """The rungs that ranked no better than chance, or so little better that more had to go on."""
    judged = [(each.network, each.agreement) for each in run.result.climbs if each.agreement is not None]
    return [
        f"The rung below {clip(network, 80)} ranked badly (Spearman {number(agreement.spearman)}): try a wider network "
        "or more epochs there, in a ladder of your own."
        for network, agreement in judged
        if agreement.decision in ("widen", "leave")
    ]


def _unseen(run: Run) -> list[str]:
    if run.result.test:
        return []
    flattered = (
        "The score chose the winner, so it flatters it: measure the network on data that chose nothing, by evaluate=… "
        "of tune."
    )
    return [flattered]
