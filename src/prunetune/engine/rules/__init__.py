"""Rules: for each torch function, which indices it ties together. One file a family of operations."""

from prunetune.engine.rules import (
    closed,
    contractions,
    elementwise,
    indexed,
    movement,
    norms,
    parts,
    recurrent,
    reductions,
    shapes,
    sizes,
    spectral,
    vision,
)
from prunetune.engine.rules.context import Rule, RuleContext
from prunetune.engine.rules.table import rule, rule_of, rule_of_module, rules

__all__ = [
    "Rule",
    "RuleContext",
    "closed",
    "contractions",
    "elementwise",
    "indexed",
    "movement",
    "norms",
    "parts",
    "recurrent",
    "reductions",
    "rule",
    "rule_of",
    "rule_of_module",
    "rules",
    "shapes",
    "sizes",
    "spectral",
    "vision",
]
