"""The table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from benchmarks.common.tables import table

HEADER: Final = (
    "network", "proxy", "parameters, %", "FLOPs, %", "blocks bypassed",
    "step ms", "step of the proxy ms", "step saved, %", "trial s", "trial of the proxy s", "trial saved, %",
    "augmentation, %", "evaluation, %", "the paper saved, %",
)  # fmt: skip


def report(result: Mapping[str, Any], *, markdown: bool) -> str:
    """The table."""
    body = []
    for name, found in result["networks"].items():
        for proxy, row in found["proxies"].items():
            body.append([
                name, proxy, 100 * row["parameters_left"], 100 * row["flops_left"], row["blocks_bypassed"],
                1e3 * found["step_seconds"], 1e3 * row["step_seconds"], 100 * row["step_time_saved"],
                found["trial_seconds"], row["trial_seconds"], 100 * row["trial_time_saved"],
                100 * row["augmentation_share"], 100 * row["evaluation_share"],
                None if found["paper_saved"] is None else 100 * found["paper_saved"],
            ])  # fmt: skip
    return table(HEADER, body, markdown=markdown)
