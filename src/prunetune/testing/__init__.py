"""Contract suites: what holds for every scorer and every optimizer, of this package and of others, as pytest classes.

A plugin's author runs all of it in a line each::

    from prunetune.testing import optimizer_contract, scorer_contract

    TestScorers = scorer_contract("apoz")
    TestOptimizers = optimizer_contract("halton")

Needs pytest, which prunetune itself does not.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError:
    raise ModuleNotFoundError("prunetune.testing needs pytest, which is not installed: pip install pytest") from None

pytest.register_assert_rewrite("prunetune.testing.optimizers", "prunetune.testing.scorers")

from prunetune.testing.optimizers import OptimizerContract, optimizer_contract  # noqa: E402 - pytest has to know of it first
from prunetune.testing.scorers import ScorerContract, scorer_contract  # noqa: E402 - likewise

__all__ = ["OptimizerContract", "ScorerContract", "optimizer_contract", "scorer_contract"]
