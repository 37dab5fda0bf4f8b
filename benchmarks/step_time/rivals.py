"""Simpler formulas for the time of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from benchmarks.step_time.runs import Row

FLOPS, PLAIN = "FLOPs", "a·FLOPs + b·activations + c·operations, fitted to the other networks"


def rivals(rows: Sequence[Row]) -> None:
    """Add what simpler formulas say. They are fitted to the other networks of this very run, which is a head start."""
    formulas = {FLOPS: ("flops",), PLAIN: ("flops", "activations", "operations")}
    for method, names in formulas.items():
        for model in dict.fromkeys(row["model"] for row in rows):
            others = [row for row in rows if row["model"] != model] or rows
            table = np.array([[row[n] / row["measured"] for n in names] for row in others])
            unit = table.max(axis=0)
            factors = nnls(table / unit, np.ones(len(others)))[0] / unit
            for row in rows:
                if row["model"] == model:
                    row["predicted"][method] = float(sum(f * row[n] for f, n in zip(factors, names, strict=True)))
