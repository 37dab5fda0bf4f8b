"""Configurations that several networks are trained with."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from prunetune._utils.seeds import derive_seed
from prunetune.backends import SearchSpace
from prunetune.backends.samplers.unit_cube import from_unit

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
