"""What authors of scorers, optimizers and rules prove their work with; all of it is loaded on first use.

A scorer and an optimizer are held to everything that is asked of ours, as pytest classes, in a line each::

    from prunetune.testing import optimizer_contract, scorer_contract

    TestScorers = scorer_contract("apoz")
    TestOptimizers = optimizer_contract("halton")

A rule for an operation is right if, whatever is cut, the smaller network computes exactly what the whole one does
without these channels. `assert_exact` tries that on a network with random cuts, `fuzz` on random networks with the
operation in them, and `means` tells the oracle what an operation does that it cannot look into.

The contracts need pytest, which prunetune itself does not.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunetune.testing.fuzzer import Findings, WrongCutError, assert_exact, fuzz
    from prunetune.testing.optimizers import OptimizerContract, optimizer_contract
    from prunetune.testing.presence import Mismatch, means
    from prunetune.testing.scorers import ScorerContract, scorer_contract

__all__ = [
    "Findings",
    "Mismatch",
    "OptimizerContract",
    "ScorerContract",
    "WrongCutError",
    "assert_exact",
    "fuzz",
    "means",
    "optimizer_contract",
    "scorer_contract",
]

_CONTRACTS = {
    "OptimizerContract": "prunetune.testing.optimizers",
    "ScorerContract": "prunetune.testing.scorers",
    "optimizer_contract": "prunetune.testing.optimizers",
    "scorer_contract": "prunetune.testing.scorers",
}
_PROOFS = {
    "Findings": "prunetune.testing.fuzzer",
    "Mismatch": "prunetune.testing.presence",
    "WrongCutError": "prunetune.testing.fuzzer",
    "assert_exact": "prunetune.testing.fuzzer",
    "fuzz": "prunetune.testing.fuzzer",
    "means": "prunetune.testing.presence",
}

if (pytest := sys.modules.get("pytest")) is not None:  # before they are imported, so that it explains their asserts
    pytest.register_assert_rewrite(*sorted(set(_CONTRACTS.values())))


def __getattr__(name: str) -> Any:
    home = (_CONTRACTS | _PROOFS).get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise ModuleNotFoundError(
            f"{__name__}.{name} needs pytest, which is not installed: pip install pytest", name="pytest"
        ) from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
