"""What all figures share: an empty figure in the theme, the look of each outcome, axes and thinning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import plotly.graph_objects as go

from prunetune.errors import PrunetuneError
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT, template
from prunetune.report.trials import Trial
from prunetune.report.words import NONE, number, plot_text

T = TypeVar("T")

MAX_TRIALS_DRAWN = 1_000
MAX_ROWS_DRAWN = 1_000
MAX_POINTS_DRAWN = 20_000


class NothingToShow(PrunetuneError):
    """The run has too little for this picture; the message is a sentence that says what is missing."""


@dataclass(frozen=True)
class Look:
    """How one outcome is drawn: always by shape as well as by colour."""

    label: str
    symbol: str
    color: str


LOOKS = {
    "complete": Look("complete", "circle", LIGHT["kept"]),
    "pruned": Look("stopped early", "diamond-open", LIGHT["pruned"]),
    "diverged": Look("diverged", "x-thin", LIGHT["diverged"]),
    "failed": Look("failed", "triangle-down", LIGHT["failed"]),
    "interrupted": Look("interrupted", "square-open", LIGHT["muted"]),
    "running": Look("running", "hourglass-open", LIGHT["muted"]),
}


def blank(title: str, *, height: int, x: str = "", y: str = "") -> go.Figure:
    """An empty figure in the report's theme. Widths follow the page; heights are in pixels."""
    figure = go.Figure(layout={"template": template(), "title": {"text": title}, "height": height})
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure


def marker(outcome: str, *, size: int = 9) -> dict[str, Any]:
    """Plotly's marker for an outcome."""
    look = LOOKS[outcome]
    return {"symbol": look.symbol, "color": look.color, "size": size, "line": {"color": look.color, "width": 1.5}}


def with_outcome(trials: Iterable[Trial], outcome: str) -> list[Trial]:
    """Those of the trials that ended like this."""
    return [trial for trial in trials if trial.outcome == outcome]


def drawn_trials(run: Run) -> list[Trial]:
    """The trials to draw: all of them, or of more than a thousand the best tenth and an even sample of the others."""
    trials = list(run.trials)
    if len(trials) <= MAX_TRIALS_DRAWN:
        return trials
    best = sorted(with_outcome(trials, "complete"), key=lambda trial: run.rank_key(trial.score))
    kept = {trial.number for trial in best[: MAX_TRIALS_DRAWN // 10]}
    kept.update(trial.number for trial in thinned(trials, MAX_TRIALS_DRAWN * 9 // 10))
    return [trial for trial in trials if trial.number in kept]


def thinned(items: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of the items, evenly spaced, first and last among them."""
    if len(items) <= limit:
        return list(items)
    step = (len(items) - 1) / (limit - 1)
    return [items[round(i * step)] for i in range(limit)]


def is_wide(values: Iterable[float]) -> bool:
    """Whether positive values span so much that only a log axis shows them."""
    positive = list(values)
    return bool(positive) and min(positive) > 0 and max(positive) / min(positive) > 100


def score_axis(figure: go.Figure, values: Sequence[float], *, title: str = "score") -> None:
    """Give the y axis room around a single value, and a log scale to values that span more than two powers of ten."""
    if is_wide(values):
        figure.update_layout(yaxis={"type": "log", "dtick": 1, "title": {"text": f"{title} (log scale)"}})
    elif values and min(values) == max(values):
        room = abs(values[0]) / 2 or 1.0
        figure.layout.yaxis.range = [values[0] - room, values[0] + room]


def count_axis(figure: go.Figure, last: int) -> None:
    """Label the x axis with whole numbers."""
    figure.update_xaxes(**({"dtick": 1} if last <= 8 else {"nticks": 8}), tickformat="d")


def hover(trial: Trial) -> str:
    """What a trial says when it is pointed at."""
    lines = [f"<b>trial {trial.number}</b> · {LOOKS[trial.outcome].label}"]
    lines += [f"score {number(trial.score) if trial.score is not None else NONE}"]
    lines += [f"{plot_text(name, 40)} = {plot_text(value, 40)}" for name, value in list(trial.params.items())[:12]]
    if trial.message:
        lines.append(plot_text(trial.message, 100))
    return "<br>".join(lines)


def no_trials(run: Run) -> NothingToShow:
    """Why no trial can be drawn: what could not be read, or that there is none."""
    return NothingToShow(run.problems[0] if run.problems else "No trial has been recorded yet.")
