"""What is asked of the tables: how narrow networks rank configurations under a rule, and what searches on them find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import optuna
from scipy.stats import spearmanr

from benchmarks.tables.cases import RATES, SIZES, WIDTHS, Array, Table
from prunetune.backends.samplers.seeded import sampler
from prunetune.transfer import transfers
from prunetune.transfer.base import Width

Row: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int, int, int]
"""A configuration: the places of its penalty, its batch size and its learning rate."""

DEPTH: Final = 2
"""Of three hidden layers."""
FULL: Final = len(WIDTHS) - 1
STEP: Final = float(RATES[1] / RATES[0])
TRIALS: Final = 81
CONFIRMED: Final = 3
PROXY: Final = WIDTHS.index(64)
"""A sixteenth of the width, a hundredth of the parameters."""
OPTIMIZERS: Final = ("random", "tpe", "optuna:tpe-multivariate", "optuna:cmaes")
MULTIVARIATE: Final = OPTIMIZERS[2]


def exponents() -> dict[str, float]:
    """How a rule changes the one rate of all layers, as a power of the share of the width that is left.

    Rules speak of layers; the tables have one rate, and most of these layers are hidden ones. Between what they say of
    hidden layers and of the first one (which `mup` leaves with Adam) is .7, what best fits language models.
    """
    half = Width(0.5, 0.5)
    named = {name: -math.log2(transfers[name].scale(half, "adam").lr) for name in ("identity", "mup", "norm-aware")}
    return {**named, "one rate, 0.7": -0.7}


def shifted(width: int, exponent: float) -> Array:
    """By place of a rate, the place of the rate that a network of that width gets; the ends stay ends."""
    share = WIDTHS[width] / WIDTHS[FULL]
    steps = round(exponent * math.log(share) / math.log(STEP))
    return np.clip(np.arange(SIZES[3]) + steps, 0, SIZES[3] - 1)


def seen(table: Table, width: int, exponent: float) -> Array:
    """Accuracy by (penalty, batch size, rate of the full network, seed) of networks of a width."""
    return table.accuracy[:, :, DEPTH, :, width][:, :, shifted(width, exponent)]


def cost(table: Table, width: int) -> float:
    """Seconds of a training over those of one of the full network: of the medians."""
    seconds = [np.median(table.seconds[:, :, DEPTH, :, each]) for each in (width, FULL)]
    return float(seconds[0] / seconds[1])


def ranks(table: Table) -> list[Row]:
    """Rank correlations of one training at each width with the mean of the full network's others, by rule."""
    full = seen(table, FULL, 0.0)
    rows = []
    for width in (PROXY, WIDTHS.index(101), WIDTHS.index(256), FULL):
        for rule, exponent in exponents().items():
            scores = seen(table, width, exponent)
            found = []
            for seed in range(full.shape[-1]):
                truth = np.delete(full, seed, axis=-1).mean(-1)
                found.append(float(spearmanr(scores[..., seed].ravel(), truth.ravel()).statistic))
            rows.append({"table": table.name, "width": WIDTHS[width], "rule": rule, "spearman": float(np.mean(found))})
    return rows


@dataclass(frozen=True)
class Way:
    """A search: trials by an optimizer at a width, the best of which are trained in full; the best of them is taken."""

    name: str
    width: int
    exponent: float
    optimizer: str
    trials: int = TRIALS
    confirmed: int = CONFIRMED


def ways() -> list[Way]:
    """On proxies by every rule at random; by the default one with every optimizer; and on the full network."""
    rules = [Way(f"proxy, {name}", PROXY, power, "random") for name, power in exponents().items()]
    default = exponents()["mup"]
    on_proxy = [Way(f"proxy, mup, {name}", PROXY, default, name) for name in OPTIMIZERS if name != "random"]
    on_full = [Way(f"full, {name}", FULL, 0.0, name, confirmed=0) for name in OPTIMIZERS]
    return [*rules, *on_proxy, *on_full]


def searched(table: Table, way: Way, draws: int) -> Row:
    """Regrets of so many searches in points, against the best mean, and what one costs in full trainings."""
    proxy, full = seen(table, way.width, way.exponent), seen(table, FULL, 0.0)
    truth = full.mean(-1)
    regrets = []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        tried = _propose(way, proxy, draw, rng)
        best = sorted(tried, key=tried.__getitem__, reverse=True)[: max(1, way.confirmed)]
        if way.confirmed:
            confirmed = {place: float(rng.choice(full[place])) for place in best}
            best = sorted(confirmed, key=confirmed.__getitem__, reverse=True)
        regrets.append(float(truth.max() - truth[best[0]]))
    price = way.trials * cost(table, way.width) + way.confirmed
    return {"table": table.name, "way": way.name, "regret": float(np.mean(regrets)), "cost": price, "draws": draws}


def _propose(way: Way, scores: Array, draw: int, rng: np.random.Generator) -> Mapping[Place, float]:
    """What was tried and how it came out, each with one of the table's trainings."""

    def score(place: Place) -> float:
        return float(rng.choice(scores[place]))

    if way.optimizer == "random":
        flat = rng.choice(scores[..., 0].size, way.trials, replace=False)
        places = [(int(a), int(b), int(c)) for a, b, c in zip(*np.unravel_index(flat, scores.shape[:-1]), strict=True)]
        return {place: score(place) for place in places}
    return _optimized(way, score, scores.shape, draw)


def _optimized(way: Way, score: Callable[[Place], float], shape: tuple[int, ...], draw: int) -> dict[Place, float]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {name: optuna.distributions.IntDistribution(0, shape[at] - 1) for at, name in enumerate(("a", "b", "c"))}
    study = optuna.create_study(direction="maximize", sampler=_sampler(way.optimizer, draw))
    found: dict[Place, float] = {}
    for _ in range(way.trials):
        trial = study.ask(space)
        place = trial.params["a"], trial.params["b"], trial.params["c"]
        value = score(place)
        study.tell(trial, value)
        found[place] = max(value, found.get(place, -math.inf))
    return found


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == MULTIVARIATE:
        return optuna.samplers.TPESampler(multivariate=True, group=False, seed=seed)
    return sampler(name, seed=seed)
