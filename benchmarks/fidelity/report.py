"""How well each way ranks, successive halving on what was trained, and the tables; nothing here trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.fidelity.cases import FACTOR, Scale, rungs, ways

RESAMPLES, BOOTSTRAP = 2000, 400


TRIALS = 50
"""Of a search, on average; fewer where there are not so many configurations to draw from."""
Scores: TypeAlias = Mapping[int, NDArray[np.float64]]
"""Scores of all configurations (N,) by the epochs after which they were taken."""


def scores(result: Mapping[str, Any], way: str, epoch: int) -> NDArray[np.float64]:
    """Of all configurations after that epoch; one that diverged is worse than all."""
    found = [each["curve"][epoch - 1] for each in result["trainings"][way]]
    return np.array([-1.0 if score is None else score for score in found])


def rows(result: Mapping[str, Any], scale: Scale) -> list[dict[str, Any]]:
    """For every way: its cost, its rank correlation with the other seed's full training, its pick's regret."""
    truth = scores(result, "full, other seed", scale.epochs)
    full = sum(each["seconds"] for each in result["trainings"]["full"])
    found = []
    for way in ways(result["network"], scale):
        if way.name == "full, other seed":
            continue
        cost = sum(each["seconds"] for each in result["trainings"][way.name]) / full
        found.append(_row(way.name, cost, scores(result, way.name, way.epochs), truth))
    for rung in rungs(scale.epochs)[:-1]:
        name = f"{rung} of {scale.epochs} epochs, truncated"
        found.append(_row(name, rung / scale.epochs, scores(result, "full", rung), truth))
    return found


def _row(name: str, cost: float, guess: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    draws = [random.integers(len(truth), size=len(truth)) for _ in range(BOOTSTRAP)]
    spread = [_correlation(guess[draw], truth[draw]) for draw in draws]
    best = truth >= np.median(truth)
    return {
        "way": name,
        "cost": cost,
        "spearman": _correlation(guess, truth),
        "interval": [float(each) for each in np.quantile(spread, [0.025, 0.975])],
        "spearman_best_half": _correlation(guess[best], truth[best]),
        "regret_points": 100 * float(truth.max() - truth[guess.argmax()]),
        "regret_points_confirmed": 100 * float(truth.max() - truth[np.argsort(-guess, kind="stable")[:3]].max()),
    }


def _correlation(guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    constant = len(set(guess)) == 1 or len(set(truth)) == 1
    return 0.0 if constant else float(spearmanr(guess, truth).statistic)


def halving(at: Scores, order: NDArray[np.intp]) -> int:
    """The configuration that successive halving finds among those of ``order``, by their scores at each rung."""
    left = order
    for number, rung in enumerate(sorted(at)):
        left = left[np.argsort(-at[rung][left], kind="stable")]
        left = left[: _survivors(len(order), number + 1)] if rung != max(at) else left
    return int(left[0])


def _survivors(count: int, halvings: int) -> int:
    return max(1, count // FACTOR**halvings)


def epochs_of(count: int, epochs: int, *, anew: bool) -> int:
    """Epochs of successive halving among so many configurations, each rung a training of its own or the same one."""
    ends = rungs(epochs)
    begun = [0] * len(ends) if anew else [0, *ends[:-1]]
    return sum(
        (_survivors(count, number) if number else count) * (end - start)
        for number, (start, end) in enumerate(zip(begun, ends, strict=True))
    )


def play(result: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Mean regret of successive halving with both forms of rungs, at equal epochs, over random draws; paired."""
    ends, last = rungs(scale.epochs), scale.epochs
    truth = scores(result, "full, other seed", last)
    truncated = {rung: scores(result, "full", rung) for rung in ends}
    names = {rung: f"{rung} of {last} epochs, re-annealed" for rung in ends[:-1]}
    anew = {**{rung: scores(result, name, rung) for rung, name in names.items()}, last: truncated[last]}
    most = min(TRIALS, max(1, 3 * len(truth) // 4))
    budget = epochs_of(most, last, anew=False)
    fewer = max(count for count in range(1, most + 1) if epochs_of(count, last, anew=True) <= budget or count == 1)
    random = np.random.default_rng(0)
    regrets = []
    for _ in range(RESAMPLES):
        order = random.permutation(len(truth))
        picks = [halving(truncated, order[:most]), halving(anew, order[:fewer]), halving(anew, order[:most])]
        regrets.append([100 * float(truth.max() - truth[pick]) for pick in picks])
    table = np.array(regrets)
    return {
        "configurations": {"truncated": most, "reannealed": fewer},
        "epochs": {"truncated": budget, "reannealed": epochs_of(fewer, last, anew=True)},
        "regret_points": {"truncated": float(table[:, 0].mean()), "reannealed": float(table[:, 1].mean())},
        "regret_points_of_as_many_configurations": float(table[:, 2].mean()),
        "epochs_of_as_many_configurations": epochs_of(most, last, anew=True),
        "share_of_draws_won": {
            "truncated": float((table[:, 0] < table[:, 1]).mean()),
            "reannealed": float((table[:, 0] > table[:, 1]).mean()),
        },
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        "| way | cost | Spearman | 95 % | best half | regret, points | after confirming 3 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["ways"]:
        low, high = row["interval"]
        lines.append(
            f"| {row['way']} | {row['cost']:.2f} | {row['spearman']:.2f} | {low:.2f} to {high:.2f} | "
            f"{row['spearman_best_half']:.2f} | {row['regret_points']:.2f} | {row['regret_points_confirmed']:.2f} |"
        )
    played = result["halving"]
    lines += [
        "",
        "| successive halving | configurations | epochs | regret, points | draws won |",
        "|---|---|---|---|---|",
    ]
    for form in ("truncated", "reannealed"):
        lines.append(
            f"| {form} | {played['configurations'][form]} | {played['epochs'][form]} | "
            f"{played['regret_points'][form]:.2f} | {played['share_of_draws_won'][form]:.0%} |"
        )
    return "\n".join([*lines, ""])
