"""The paper's transfer: the full network is trained with what was best on the proxy (arXiv 2205.08695, section 3)."""

from __future__ import annotations

from prunetune.transfer.base import Factors, Width
from prunetune.transfer.kinds import OptimizerKind


class Identity:
    """Proxy and full network get the same hyperparameters: the paper's."""

    name = "identity"

    def scale(self, width: Width, optimizer: OptimizerKind) -> Factors:
        """Factors of 1."""
        return Factors()


IDENTITY = Identity()
