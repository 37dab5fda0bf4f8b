"""What pruning removed: one horizontal bar for each group or layer, kept and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from prunetune.report.figures.base import MAX_ROWS_DRAWN, NothingToShow, blank, thinned
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.words import percent, plot_text, short_names

LABEL_LENGTH = 22  # characters: what a phone has room for beside the bars
LABEL_HEIGHT = 16  # pixels


@dataclass(frozen=True)
class _Row:
    name: str
    before: int
    after: int


def groups_cut(run: Run) -> go.Figure:
    """Channels kept and removed in each group of layers that share them, in the network's order, first on top."""
    pruning = run.result.pruning
    rows = [_Row(group.name, group.before, group.after) for group in (pruning.groups if pruning else ())]
    return _bars("Channels kept and removed, by group", "channels", rows)


def layers_cut(run: Run) -> go.Figure:
    """Weights kept and removed in each layer, in the network's order, first on top."""
    pruning = run.result.pruning
    rows = [_Row(layer.name, *layer.sizes) for layer in (pruning.layers if pruning else ())]
    return _bars("Weights kept and removed, by layer", "weights", rows)


def _bars(title: str, unit: str, rows: Sequence[_Row]) -> go.Figure:
    if not rows:
        raise NothingToShow(f"The run has not recorded its pruning yet, so there is no picture of {unit} removed.")
    rows = thinned(rows, MAX_ROWS_DRAWN)
    names = short_names([row.name for row in rows], LABEL_LENGTH)
    # From 24 pixels a row for a few rows down to 5 for hundreds; then only every third or fourth row has its name.
    pitch = max(5.0, min(24.0, 1000 / len(rows)))
    every = max(1, -(-LABEL_HEIGHT // int(pitch)))
    positions = list(range(len(rows)))
    figure = blank(title, height=round(pitch * len(rows)) + 130, x=unit)
    words = [
        f"<b>{plot_text(row.name)}</b><br>{row.before:,} → {row.after:,} {unit}"
        + (f" ({percent(row.after / row.before)} kept)" if row.before else "")
        for row in rows
    ]
    outline = {"color": LIGHT["line"], "width": 1 if pitch > 12 else 0.5}
    for label, lengths, color in (
        ("kept", [row.after for row in rows], LIGHT["kept"]),
        ("removed", [max(0, row.before - row.after) for row in rows], LIGHT["removed"]),
    ):
        figure.add_bar(
            orientation="h",
            x=lengths,
            y=positions,
            name=label,
            marker={"color": color, "line": outline},
            hovertext=words,
            hoverinfo="text",
        )
    figure.update_layout(barmode="stack", bargap=0.2, legend={"traceorder": "normal"})
    figure.update_yaxes(
        range=[len(rows) - 0.4, -0.6],
        tickvals=positions[::every],
        ticktext=[plot_text(name, LABEL_LENGTH) for name in names[::every]],
        tickfont={"size": 12},
        showgrid=False,
        ticks="outside",
        ticklen=4,
    )
    figure.update_xaxes(rangemode="tozero", nticks=6, separatethousands=True)
    return figure
