"""Learning curves, of any number of trials."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from prunetune.report.figures.base import (
    LOOKS,
    MAX_POINTS_DRAWN,
    NothingToShow,
    blank,
    count_axis,
    score_axis,
    thinned,
    with_outcome,
)
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.trials import Trial
from prunetune.report.words import number

DASHES = {"complete": "solid", "pruned": "dot", "diverged": "dash", "failed": "dashdot"}


def draw_curves(run: Run, trials: Sequence[Trial], title: str, what: str) -> go.Figure:
    """One line for each trial that reported scores, coloured and dashed by outcome, the best one thick."""
    trials = [trial for trial in trials if trial.curve]
    if not trials:
        raise NothingToShow(f"No trial has reported a score after an epoch, so there are no {what}.")
    complete = [trial for trial in trials if trial.outcome == "complete" and trial.score is not None]
    best = min(complete, key=lambda trial: run.rank_key(trial.score), default=None)
    each = max(2, MAX_POINTS_DRAWN // len(trials))
    figure = blank(title, height=420, x="epoch", y="score")
    for outcome, look in LOOKS.items():
        group = [trial for trial in with_outcome(trials, outcome) if trial is not best]
        if group:
            _lines(figure, group, look.label, look.color, DASHES.get(outcome, "dot"), 1.2, 0.65, each)
    if best is not None:
        _lines(figure, [best], f"best (trial {best.number})", LIGHT["best"], "solid", 3.5, 1.0, each)
    score_axis(figure, [value for trial in trials for _, value in trial.curve if value is not None])
    count_axis(figure, max(trial.curve[-1][0] for trial in trials))
    figure.update_layout(showlegend=True)
    return figure


def _lines(
    figure: go.Figure,
    trials: Sequence[Trial],
    label: str,
    color: str,
    dash: str,
    width: float,
    opacity: float,
    points: int,
) -> None:
    """All of the trials as one trace, with a gap after each: a thousand traces would be slow to draw."""
    x: list[float | None] = []
    y: list[float | None] = []
    words: list[str] = []
    for trial in trials:
        for step, value in thinned(trial.curve, points):
            x.append(step)
            y.append(value)
            words.append(f"trial {trial.number} · epoch {step} · {number(value)}")
        x.append(None)
        y.append(None)
        words.append("")
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=label,
        line={"color": color, "width": width, "dash": dash},
        marker={"size": width + 2.5, "color": color},
        opacity=opacity,
        hovertext=words,
        hoverinfo="text",
    )
