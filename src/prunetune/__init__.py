"""Prune small, tune fast, train full: hyperparameter search on a pruned proxy of your network.

The names below are loaded on first use, so that `import prunetune` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prunetune._utils.moved import forward_moved
from prunetune._version import __version__ as __version__

if TYPE_CHECKING:
    from prunetune._utils.caller import seed_all
    from prunetune._utils.malloc import keep_freed_memory
    from prunetune.backends.space import Categorical, Float, Int, SearchSpace
    from prunetune.backends.study.trial import Report
    from prunetune.checking.proxy_check import CheckResult, check
    from prunetune.comparison.compare import CompareResult, compare
    from prunetune.comparison.settings import Comparison
    from prunetune.engine import DependencyGraph, PruningPlan, load_cut
    from prunetune.events import silent
    from prunetune.ladder.rung import Ladder, Rung
    from prunetune.pruning.cut import prune
    from prunetune.pruning.result import PruneResult
    from prunetune.tuning.own_search import proxy_objective, proxy_of
    from prunetune.tuning.planning import plan
    from prunetune.tuning.ranks import Ranks
    from prunetune.tuning.retraining import retrain
    from prunetune.tuning.settings import Pruning, Search
    from prunetune.tuning.tuner import TuneResult, tune
    from prunetune.tuning.worker import work


forward_moved()

_HOMES = {
    "Categorical": "prunetune.backends.space",
    "CheckResult": "prunetune.checking.proxy_check",
    "CompareResult": "prunetune.comparison.compare",
    "Comparison": "prunetune.comparison.settings",
    "DependencyGraph": "prunetune.engine",
    "Float": "prunetune.backends.space",
    "Int": "prunetune.backends.space",
    "Ladder": "prunetune.ladder.rung",
    "PruneResult": "prunetune.pruning.result",
    "Pruning": "prunetune.tuning.settings",
    "PruningPlan": "prunetune.engine",
    "Ranks": "prunetune.tuning.ranks",
    "Report": "prunetune.backends.study.trial",
    "Rung": "prunetune.ladder.rung",
    "Search": "prunetune.tuning.settings",
    "SearchSpace": "prunetune.backends.space",
    "TuneResult": "prunetune.tuning.tuner",
    "check": "prunetune.checking.proxy_check",
    "compare": "prunetune.comparison.compare",
    "keep_freed_memory": "prunetune._utils.malloc",
    "load_cut": "prunetune.engine",
    "plan": "prunetune.tuning.planning",
    "proxy_objective": "prunetune.tuning.own_search",
    "proxy_of": "prunetune.tuning.own_search",
    "prune": "prunetune.pruning.cut",
    "retrain": "prunetune.tuning.retraining",
    "seed_all": "prunetune._utils.caller",
    "silent": "prunetune.events",
    "tune": "prunetune.tuning.tuner",
    "work": "prunetune.tuning.worker",
}

__all__ = [
    "Categorical",
    "CheckResult",
    "CompareResult",
    "Comparison",
    "DependencyGraph",
    "Float",
    "Int",
    "Ladder",
    "PruneResult",
    "Pruning",
    "PruningPlan",
    "Ranks",
    "Report",
    "Rung",
    "Search",
    "SearchSpace",
    "TuneResult",
    "check",
    "compare",
    "keep_freed_memory",
    "load_cut",
    "plan",
    "proxy_objective",
    "proxy_of",
    "prune",
    "retrain",
    "seed_all",
    "silent",
    "tune",
    "work",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunetune' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
