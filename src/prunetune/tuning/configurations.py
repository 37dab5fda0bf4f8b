"""Configurations that several networks are trained with."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from prunetune._utils.seeds import derive_seed
from prunetune.backends import SearchSpace
from prunetune.backends.samplers.unit_cube import from_unit
from prunetune.backends.study.attributes import CONFIGURATION
from prunetune.backends.study.study import finished_trials, outcome

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

DRAWS: Final = 64
"""So many points are looked at for each configuration, where a small space makes them equal."""


def draw_configurations(space: SearchSpace, count: int, seed: int) -> list[dict[str, Any]]:
    """So many different points of a scrambled Sobol sequence in ``space``; fewer if it has fewer.

    More of them begin with the same ones.
    """
    from scipy.stats import qmc

    distributions = space.to_optuna()
    engine = qmc.Sobol(len(space), scramble=True, rng=derive_seed(seed, "check", 0))
    points = engine.random_base2(math.ceil(math.log2(count * DRAWS)))
    found: dict[str, dict[str, Any]] = {}
    for point in points:
        params = {name: from_unit(u, each) for (name, each), u in zip(distributions.items(), point, strict=True)}
        found.setdefault(json.dumps(params), space.plain(params))
        if len(found) == count:
            break
    return list(found.values())


def queue(study: optuna.Study, points: Mapping[Any, Mapping[str, Any]]) -> int:
    """Queue the configurations, by their names, that have neither a score nor diverged; how many trials there will be.

    One that failed is tried again at the next start, with another seed.
    """
    from optuna.trial import TrialState

    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    known = {*tried(study), *(trial.user_attrs[CONFIGURATION] for trial in waiting)}
    new = [name for name in points if name not in known]
    for name in new:
        study.enqueue_trial(dict(points[name]), user_attrs={CONFIGURATION: name})
    return len(finished_trials(study)) + len(waiting) + len(new)


def tried(study: optuna.Study, outcomes: Collection[str] = ("complete", "diverged")) -> dict[Any, FrozenTrial]:
    """The last trial of each configuration that was queued and ended in one of these ways, by its name."""
    trials = study.get_trials(deepcopy=False)
    return {t.user_attrs[CONFIGURATION]: t for t in trials if CONFIGURATION in t.user_attrs and outcome(t) in outcomes}
