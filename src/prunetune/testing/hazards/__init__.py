"""Small networks with one structural hazard each. `NETWORKS`: name → (factory, example inputs)."""

from __future__ import annotations

from prunetune.testing.hazards import (
    attention,
    computed,
    control,
    convolutions,
    indices,
    joining,
    normalisations,
    numbers,
    parts,
    recurrence,
    shapes,
    sharing,
    shuffles,
)  # fmt: skip
from prunetune.testing.hazards.common import NETWORKS

REFUSED = {"IndexSelect": "index_select", "WritesInPlace": "__setitem__", "NoRule": "renorm", **numbers.NOTHING_CUT}
"""Networks of which nothing can be cut, and the operation that must be named for it."""

__all__ = [
    "NETWORKS", "REFUSED",
    "attention", "computed", "control", "convolutions", "indices", "joining", "normalisations", "numbers", "parts",
    "recurrence", "shapes", "sharing", "shuffles",
]  # fmt: skip  # the families register their networks
