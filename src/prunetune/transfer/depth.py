"""Learning rates of a network that has fewer residual blocks than the full one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prunetune.transfer.base import Width
from prunetune.transfer.kinds import OptimizerKind

EXPONENTS: Final[Mapping[OptimizerKind, float]] = {"adam": 0.3, "sgd": 0.4}
"""The best rate falls with the number of blocks to this power.

Adam: .20 to .42 of language models with AdamW. SGD: our own measurement, of a ResNet of 26 layers (decision 41).
"""


def depth_factor(width: Width, optimizer: OptimizerKind) -> float:
    """What every rate is multiplied by where ``width.depth``, a share of the residual blocks, is left."""
    return float(width.depth ** -EXPONENTS[optimizer])
