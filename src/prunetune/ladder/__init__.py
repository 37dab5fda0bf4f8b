"""The ladder: the rungs of a search, what each costs, who goes on, and the plan that a budget buys.

Values only: nothing here trains anything or knows a network or a study. ``ladders`` has the plans by name. Another
distribution adds its own with entry points of the group ``prunetune.ladders``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from prunetune.registry import Registry

if TYPE_CHECKING:
    from prunetune.ladder.named import Situation
    from prunetune.ladder.plan import Plan

Planner: TypeAlias = "Callable[[Situation], Plan]"

ladders: Registry[Planner] = Registry("ladder", group="prunetune.ladders")
for _name in ("default", "paper", "confirm-3", "full"):
    ladders.register_lazy(_name, f"prunetune.ladder.named:{_name.replace('-', '_')}")

__all__ = ["ladders"]
