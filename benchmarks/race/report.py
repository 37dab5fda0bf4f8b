"""The table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import table


def report(rows: Sequence[Mapping[str, Any]], *, markdown: bool) -> str:
    """The rows as text."""
    head = ("base", "confirmed", "rule", "another wins", "regret, points", "worst", "epochs saved")
    cells = [
        (
            row["base"],
            str(row["confirmed"]),
            row["rule"],
            f"{row['another_wins']:.1%}",
            f"{row['regret_points']:.3f}",
            f"{row['worst_regret_points']:.2f}",
            f"{row['epochs_saved']:.1%}",
        )
        for row in rows
    ]
    return table(head, cells, markdown=markdown)
