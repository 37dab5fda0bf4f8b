"""What racing the confirmations costs and saves, on learning curves of real trainings.

    OMP_NUM_THREADS=1 python -m benchmarks.race --json benchmarks/results/race.json

The curves are those of `benchmarks.optimizers`: digits is the full network and Fashion-MNIST its proxy, and the other
way round; so the proxy is a poor one. Of `SEARCHED` random configurations the best few on the "proxy" are confirmed, in
order, each score with noise; a rule stops some of them. Against no stopping: how often another one wins, how many
points that costs, and how many epochs are saved.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.common.curves import CHANCE, Table, load
from prunetune.backends.pruners.race import Race, Standing
from prunetune.backends.study.attributes import PROXY_CURVE
from prunetune.record.provenance import machine, versions

SEARCHED: Final = 50
NOISE: Final = 0.004
"""Standard deviation of a score: that of an accuracy of 0.9 on 5,600 images."""
CONFIRMED: Final = (3, 5)
REPEATS: Final = {"smoke": 10, "cpu": 400, "full": 2000}

Curves = NDArray[np.float64]  # (configurations, epochs)


class Halving(Race):
    """Stops whatever is worse than the best that has finished, at the same epochs: no margin at all."""

    def standing(self, study: Study, trial: FrozenTrial) -> Standing | None:
        """The same with a margin of 0."""
        found = super().standing(study, trial)
        return None if found is None else replace(found, margin=0.0)


class WithoutProxy(Race):
    """The race, knowing nothing of the proxy's learning curves."""

    def standing(self, study: Study, trial: FrozenTrial) -> Standing | None:
        """The same for a trial without the proxy's curve."""
        trial.user_attrs.pop(PROXY_CURVE, None)
        return super().standing(study, trial)


RULES: Final[Mapping[str, type[Race]]] = {"race": Race, "race, proxy unseen": WithoutProxy, "no margin": Halving}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__)
    parser.add_argument("--scale", choices=REPEATS, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="a table in Markdown")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = measure(REPEATS[options.scale], options.seed)
    print(table(rows, markdown=options.markdown))
    if options.json:
        surroundings = {"machine": {**machine(torch.nn.Identity()), "load": os.getloadavg()[0]}, "versions": versions()}
        settings = {"searched": SEARCHED, "noise": NOISE, "repeats": REPEATS[options.scale]}
        found = {**surroundings, "seeds": [options.seed], "settings": settings, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def measure(repeats: int, seed: int) -> list[dict[str, Any]]:
    """One row for each base, number of confirmations and rule."""
    rows = []
    for base, proxy in (("digits", "fashion-mnist"), ("fashion-mnist", "digits")):
        for confirmed in CONFIRMED:
            generator = np.random.default_rng([seed, confirmed])
            cases = [draw(load(base), load(proxy), confirmed, generator) for _ in range(repeats)]
            for name, rule in RULES.items():
                ended = [run(rule, *case) for case in cases]
                regret = np.array([points for points, _ in ended])
                saved = float(np.mean([share for _, share in ended]))
                rows.append(
                    {
                        "base": base,
                        "confirmed": confirmed,
                        "rule": name,
                        "another_wins": float(np.mean(regret > 0)),
                        "regret_points": float(regret.mean()),
                        "worst_regret_points": float(regret.max()),
                        "epochs_saved": saved,
                    }
                )
                print(f"{base}, {confirmed} confirmed: {name}", file=sys.stderr, flush=True)
    return rows


def draw(base: Table, proxy: Table, confirmed: int, generator: np.random.Generator) -> tuple[Curves, Curves]:
    """Learning curves of the proxy's best few of random configurations, best first: on the base and on the proxy."""
    places = generator.random((SEARCHED, len(base.space)))
    on_base, on_proxy = (
        np.stack([np.nan_to_num(each.curve(at(each, place)), nan=CHANCE) for place in places])
        + generator.normal(0, NOISE, (SEARCHED, each.epochs))
        for each in (base, proxy)
    )
    best = np.argsort(-on_proxy[:, -1], kind="stable")[:confirmed]
    return on_base[best], on_proxy[best]


def at(table: Table, place: NDArray[np.float64]) -> dict[str, float]:
    """The hyperparameters at a place of the unit cube."""
    params = {}
    for (name, points), share in zip(table.grid.items(), place, strict=True):
        low, high = points[0], points[-1]
        log = getattr(table.space[name], "log", False)
        params[name] = float(low * (high / low) ** share if log else low + share * (high - low))
    return params


def run(rule: type[Race], on_base: Curves, on_proxy: Curves) -> tuple[float, float]:
    """Points that the winner is worse than the best of all, and the share of epochs that was saved."""
    epochs = on_base.shape[1]
    study = optuna.create_study(direction="maximize", pruner=rule(epochs))
    trained, finished = 0, []
    for curve, known in zip(on_base, on_proxy, strict=True):
        study.enqueue_trial({}, user_attrs={PROXY_CURVE: list(enumerate(known.tolist(), 1))})
        trial = study.ask()
        ended = epochs
        for epoch, score in enumerate(curve.tolist(), 1):
            trial.report(score, epoch)
            if epoch < epochs and trial.should_prune():
                ended = epoch
                break
        trained += ended
        if ended == epochs:
            finished.append(curve[-1])
            study.tell(trial, curve[-1])
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return 100 * float(on_base[:, -1].max() - max(finished)), 1 - trained / on_base.size


def table(rows: Sequence[Mapping[str, Any]], *, markdown: bool) -> str:
    """The rows as text."""
    head = ("base", "confirmed", "rule", "another wins", "regret, points", "worst", "epochs saved")
    cells = [
        (
            row["base"],
            str(row["confirmed"]),
            row["rule"],
            f"{row['another_wins']:.1%}",
            f"{row['regret_points']:.3f}",
            f"{row['worst_regret_points']:.2f}",
            f"{row['epochs_saved']:.1%}",
        )
        for row in rows
    ]
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *cells))
    return "\n".join("  ".join(f"{cell:<18}" for cell in line).rstrip() for line in (head, *cells))


if __name__ == "__main__":
    raise SystemExit(main())
