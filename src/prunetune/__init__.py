"""Prune small, tune fast, train full: hyperparameter search on a pruned proxy of your network.

The names below are loaded on first use, so that `import prunetune` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunetune.allocator import keep_freed_memory
    from prunetune.backends.space import Categorical, Float, Int, SearchSpace
    from prunetune.backends.trial import Report
    from prunetune.caller import seed_all
    from prunetune.checking import CheckResult, check
    from prunetune.comparison.compare import CompareResult, compare
    from prunetune.comparison.settings import Comparison
    from prunetune.engine import DependencyGraph, PruningPlan
    from prunetune.events import silent
    from prunetune.fidelity import Fidelity
    from prunetune.objective import proxy_objective, proxy_of
    from prunetune.pruned import PruneResult
    from prunetune.pruning import prune
    from prunetune.retraining import retrain
    from prunetune.settings import Pruning, Search
    from prunetune.tuner import TuneResult, tune
    from prunetune.workers import work

__version__ = "0.1.0"

_HOMES = {
    "Categorical": "prunetune.backends.space",
    "CheckResult": "prunetune.checking",
    "CompareResult": "prunetune.comparison.compare",
    "Comparison": "prunetune.comparison.settings",
    "DependencyGraph": "prunetune.engine",
    "Fidelity": "prunetune.fidelity",
    "Float": "prunetune.backends.space",
    "Int": "prunetune.backends.space",
    "PruneResult": "prunetune.pruned",
    "Pruning": "prunetune.settings",
    "PruningPlan": "prunetune.engine",
    "Report": "prunetune.backends.trial",
    "Search": "prunetune.settings",
    "SearchSpace": "prunetune.backends.space",
    "TuneResult": "prunetune.tuner",
    "check": "prunetune.checking",
    "compare": "prunetune.comparison.compare",
    "keep_freed_memory": "prunetune.allocator",
    "proxy_objective": "prunetune.objective",
    "proxy_of": "prunetune.objective",
    "prune": "prunetune.pruning",
    "retrain": "prunetune.retraining",
    "seed_all": "prunetune.caller",
    "silent": "prunetune.events",
    "tune": "prunetune.tuner",
    "work": "prunetune.workers",
}

__all__ = [
    "Categorical",
    "CheckResult",
    "CompareResult",
    "Comparison",
    "DependencyGraph",
    "Fidelity",
    "Float",
    "Int",
    "PruneResult",
    "Pruning",
    "PruningPlan",
    "Report",
    "Search",
    "SearchSpace",
    "TuneResult",
    "check",
    "compare",
    "keep_freed_memory",
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
