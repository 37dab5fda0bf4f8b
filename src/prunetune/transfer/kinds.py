"""Which optimizers a transfer rule tells apart, and which follow it: words only, which settings know without torch."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

OptimizerKind: TypeAlias = Literal["sgd", "adam"]
"""``"sgd"``, with or without momentum, or ``"adam"``: an update whose size does not depend on the gradient's."""

OPTIMIZER_KINDS: tuple[OptimizerKind, ...] = get_args(OptimizerKind)

Corrected: TypeAlias = Literal["asked", "sgd", "adam"]
"""Which optimizers of a proxy follow the rule: those whose groups were asked for, or all, each as one of this kind."""
