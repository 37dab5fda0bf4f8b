"""The ladder: every configuration on every rung that it came to."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from prunetune.report.figures.base import NothingToShow, blank, thinned
from prunetune.report.ladder import climbs
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.words import number, plot_text

MOST = 500


def ladder(run: Run) -> go.Figure:
    """Scores by rung, a line for each configuration that went up, the winner's in colour."""
    rungs = climbs(run)
    if len(rungs) < 2:
        raise NothingToShow("The ladder has one rung, the full network, so nobody goes up.")
    figure = blank("Who went up the ladder", height=420, y="score")
    labels = [plot_text(f"{place}. {each.rung.network}", 60) for place, each in enumerate(rungs, 1)]
    winner = run.result.winner.trial if run.result.winner else None
    up = list(rungs[-1].scores) + [n for each in rungs[1:-1] for n in each.scores]
    others = [*dict.fromkeys(n for n in up if n != winner)]
    for trial in [*others, *([] if winner is None else [winner])]:
        known = [(label, each.scores.get(trial)) for label, each in zip(labels, rungs, strict=True)]
        points = [(label, score) for label, score in known if score is not None and math.isfinite(score)]
        won = trial == winner
        figure.add_scatter(
            x=[label for label, _ in points],
            y=[score for _, score in points],
            mode="lines+markers",
            name="winner" if won else "went up",
            legendgroup="winner" if won else "up",
            showlegend=won or trial == others[0],
            line={"color": LIGHT["best"] if won else LIGHT["kept"], "width": 3 if won else 1},
            marker={"size": 11 if won else 7, "symbol": "star" if won else "circle"},
            hovertext=[f"<b>trial {trial}</b><br>{label}<br>score {number(score)}" for label, score in points],
            hoverinfo="text",
        )
    stayed = [
        (label, trial, score)
        for label, each in zip(labels, rungs, strict=True)
        for trial, score in each.scores.items()
        if trial not in up and score is not None and math.isfinite(score)
    ]
    stayed = thinned(stayed, MOST)
    figure.add_scatter(
        x=[label for label, _, _ in stayed],
        y=[score for _, _, score in stayed],
        mode="markers",
        name="stayed",
        marker={"color": LIGHT["removed"], "size": 6},
        hovertext=[f"<b>trial {trial}</b><br>{label}<br>score {number(score)}" for label, trial, score in stayed],
        hoverinfo="text",
    )
    figure.update_xaxes(categoryorder="array", categoryarray=labels, tickangle=0, automargin=True)
    figure.update_layout(showlegend=True)
    return figure
