"""The table of images a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common.tables import table
from benchmarks.pipeline.rivals import LOOPS


def report(result: Mapping[str, Any], *, markdown: bool) -> str:
    """The table of images a second, and how many times faster ours is."""
    body = [[row["pipeline"], *(row[loop] for loop in LOOPS)] for row in result["images_per_second"]]
    lines = [table(["images/s", *LOOPS], body, markdown=markdown), ""]
    lines += [
        f"ours beside {name}: batches {faster['batches']:.1f} times as fast, "
        f"our loop {faster['training']:.2f} times as fast as the usual"
        for name, faster in result["times_faster"].items()
    ]
    return "\n".join(lines)
