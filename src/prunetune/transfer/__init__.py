"""Rules by name for taking hyperparameters from a narrow proxy to the full network.

The full network always gets the hyperparameters as they are; a rule says what the *proxy* makes of them, so that what
is best there is best on the full network too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunetune.registry import Registry

if TYPE_CHECKING:
    from prunetune.transfer.base import TransferRule

transfers: Registry[TransferRule] = Registry("transfer rule")
transfers.register_lazy("identity", "prunetune.transfer.identity:IDENTITY")
transfers.register_lazy("mup", "prunetune.transfer.mup:MUP")
transfers.register_lazy("norm-aware", "prunetune.transfer.norm_aware:NORM_AWARE")

__all__ = ["transfers"]
