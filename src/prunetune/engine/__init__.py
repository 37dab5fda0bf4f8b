"""Graph surgery: what of a network belongs together, what a cut costs, and the cut itself.

Needs torch, numpy, scipy and networkx, and nothing else of prunetune but its errors.
"""

import warnings
from typing import Any

from prunetune.engine.checkpoints import carry_optimizer, cut_state_dict, load_cut
from prunetune.engine.cost import Cost, cost, flops_of_units, step_time
from prunetune.engine.dependency import DependencyGraph, Frozen, Group, Heads
from prunetune.engine.depth.blocks import Block, bypass, residual_blocks
from prunetune.engine.depth.shortcut import Shortcut
from prunetune.engine.drawing import draw
from prunetune.engine.plan import AttributeChange, PruningPlan, TensorCut
from prunetune.engine.recovery import Recovered, recover
from prunetune.engine.rules import RuleContext, rule
from prunetune.engine.selection.budget import by_cost
from prunetune.engine.selection.names import groups_of
from prunetune.engine.selection.ranking import by_hand, by_percentile, by_ratio
from prunetune.engine.surgery import apply
from prunetune.engine.tracing.trace import ExampleInputs, call_arguments, check_runs, to_device, traces
from prunetune.engine.weights import fresh_proxy

__all__ = [
    "AttributeChange",
    "Block",
    "Cost",
    "DependencyGraph",
    "ExampleInputs",
    "Frozen",
    "Group",
    "Heads",
    "PruningPlan",
    "Recovered",
    "RuleContext",
    "Shortcut",
    "TensorCut",
    "apply",
    "by_cost",
    "by_hand",
    "by_percentile",
    "by_ratio",
    "bypass",
    "call_arguments",
    "carry_optimizer",
    "check_runs",
    "cost",
    "cut_state_dict",
    "draw",
    "flops_of_units",
    "fresh_proxy",
    "groups_of",
    "load_cut",
    "recover",
    "residual_blocks",
    "rule",
    "step_time",
    "to_device",
    "traces",
]


def __getattr__(name: str) -> Any:
    """``RuleContext`` under the name that it had."""
    if name != "Context":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.Context is RuleContext now", DeprecationWarning, stacklevel=2)
    return RuleContext
