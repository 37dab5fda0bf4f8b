"""What a transfer rule makes of every parameter of a proxy, for people and for machines."""

from __future__ import annotations

from typing import Any

from torch import nn

from prunetune.engine import PruningPlan
from prunetune.transfer import transfers
from prunetune.transfer.base import widths
from prunetune.transfer.kinds import OPTIMIZER_KINDS


def factors_by_parameter(model: nn.Module, plan: PruningPlan, transfer: str) -> list[dict[str, Any]]:
    """A row for each parameter of the proxy ``model``: its shares of width, what it is, and the rule's factors."""
    rule = transfers[transfer]
    rows = []
    for name, width in widths(model, plan).items():
        factors = {kind: rule.scale(width, kind) for kind in OPTIMIZER_KINDS}
        rows.append(
            {
                "parameter": name,
                "fan_in": width.fan_in,
                "fan_out": width.fan_out,
                "kind": f"{width.kind}, before a norm" if width.normed else width.kind,
                **{f"lr {kind}": each.lr for kind, each in factors.items()},
                "init": factors["sgd"].init,
            }
        )
    return rows


def factor_ranges(model: nn.Module, plan: PruningPlan, transfer: str) -> dict[str, tuple[float, float]]:
    """By kind of optimizer the smallest and the largest factor for a learning rate in the proxy ``model``."""
    rule = transfers[transfer]
    found: dict[str, tuple[float, float]] = {}
    for kind in OPTIMIZER_KINDS:
        factors = [rule.scale(width, kind).lr for width in widths(model, plan).values()]
        found[kind] = (min(factors), max(factors))
    return found


def as_text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table with a line for each.

    >>> print(as_text([{"parameter": "fc.weight", "fan_in": 0.25, "kind": "matrix"}]))
    parameter  fan_in  kind
    fc.weight    0.25  matrix
    """
    texts = [list(rows[0]), *([f"{x:.3g}" if isinstance(x, float) else x for x in row.values()] for row in rows)]
    numbers = [isinstance(value, float) for value in rows[0].values()]
    sizes = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = (
        "  ".join(
            text.rjust(size) if number else text.ljust(size)
            for text, size, number in zip(row, sizes, numbers, strict=True)
        )
        for row in texts
    )
    return "\n".join(line.rstrip() for line in lines)
