"""Where trials ended: the rungs of the trial pruner, and what became of the trials that came there."""

from __future__ import annotations

from collections import Counter

import plotly.graph_objects as go

from prunetune.report.figures.base import LOOKS, NothingToShow, blank, count_axis
from prunetune.report.run import Run


def ended_at(run: Run) -> dict[str, Counter[int]]:
    """For each outcome, how many trials ended after each epoch; those that never reported ended after none."""
    found: dict[str, Counter[int]] = {}
    for trial in run.trials:
        if trial.outcome != "running":
            found.setdefault(trial.outcome, Counter())[trial.curve[-1][0] if trial.curve else 0] += 1
    return {outcome: found[outcome] for outcome in LOOKS if outcome in found}


def rungs(run: Run) -> go.Figure:
    """Stacked bars: how many trials ended after each epoch, by outcome."""
    ended = ended_at(run)
    if not any(epoch for counts in ended.values() for epoch in counts):
        raise NothingToShow("No trial has reported a score after an epoch, so nothing is known of where trials ended.")
    figure = blank("Where trials ended", height=320, x="epoch", y="trials")
    for outcome, counts in ended.items():
        epochs = sorted(counts)
        figure.add_bar(
            x=epochs,
            y=[counts[epoch] for epoch in epochs],
            name=LOOKS[outcome].label,
            marker_color=LOOKS[outcome].color,
            hovertemplate="%{y} after epoch %{x}",
        )
    figure.update_layout(barmode="stack", showlegend=True)
    count_axis(figure, max(epoch for counts in ended.values() for epoch in counts))
    return figure
