"""Rows as an aligned table, or one in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], body: Sequence[Sequence[object]], *, markdown: bool) -> str:
    """Aligned columns: numbers to the right, text to the left."""
    cells = [list(header), *([_text(value) for value in row] for row in body)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [all(not isinstance(row[i], str) or row[i] in ("", "-") for row in body) for i in range(len(header))]
    lines = [
        [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric, strict=True)]
        for row in cells
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * (w - 1) + (":" if right else "-") for w, right in zip(widths, numeric, strict=True)]
    return "\n".join(f"| {' | '.join(line).replace('||', '')} |" for line in [lines[0], rule, *lines[1:]])


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "¦")
