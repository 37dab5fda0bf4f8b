"""What the trainings of the full network said."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from prunetune.record.schema import Confirmation
from prunetune.report.figures.base import NothingToShow, blank
from prunetune.report.figures.curves import draw_curves
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.words import number, plot_text


def confirmed(run: Run) -> list[Confirmation]:
    """The trainings of the full network that have a score, and one from the rung below."""
    rows = run.result.confirmation or ()
    return [row for row in rows if _scored(row.proxy_score) and _scored(row.base_score)]


def _scored(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def rank_correlation(run: Run) -> float | None:
    """Spearman's rank correlation of the scores on both rungs; None for fewer than three, or if either is constant."""
    from scipy.stats import spearmanr

    rows = confirmed(run)
    proxy = [row.proxy_score for row in rows if row.proxy_score is not None]
    base = [row.base_score for row in rows if row.base_score is not None]
    if len(rows) < 3 or len(set(proxy)) < 2 or len(set(base)) < 2:
        return None
    return float(spearmanr(proxy, base).statistic)


def confirmation(run: Run) -> go.Figure:
    """Score on the rung below against score on the full network, one point for each training, the winner a star."""
    rows = confirmed(run)
    if len(rows) < 2:
        raise NothingToShow("One configuration came to a score on the full network." if rows else _why_not(run))
    figure = blank(
        f"Score on {run.below} against score on the full network",
        height=400,
        x=f"score on {run.below}",
        y="score on the full network",
    )
    for label, chosen, symbol, size, color in (
        ("trained", [row for row in rows if not run.won(row)], "circle", 11, LIGHT["kept"]),
        ("winner", [row for row in rows if run.won(row)], "star", 17, LIGHT["best"]),
    ):
        if chosen:
            figure.add_scatter(
                x=[row.proxy_score for row in chosen],
                y=[row.base_score for row in chosen],
                mode="markers+text",
                name=label,
                text=[str(row.trial) for row in chosen],
                textposition="top center",
                marker={"symbol": symbol, "size": size, "color": color},
                hovertext=[_hover(run, row) for row in chosen],
                hoverinfo="text",
                cliponaxis=False,
            )
    figure.update_xaxes(range=_padded([row.proxy_score for row in rows]), nticks=6)
    figure.update_yaxes(range=_padded([row.base_score for row in rows]), nticks=6)
    figure.update_layout(showlegend=True)
    return figure


def confirmation_curves(run: Run) -> go.Figure:
    """The learning curves on the full network."""
    return draw_curves(run, run.confirm_trials, "Learning curves on the full network", "curves of the full network")


def _hover(run: Run, row: Confirmation) -> str:
    lines = [f"<b>trial {row.trial}</b>", f"{run.below.removeprefix('the ')} {number(row.proxy_score)}"]
    lines.append(f"full network {number(row.base_score)}")
    lines += [f"{plot_text(name, 40)} = {plot_text(value, 40)}" for name, value in list(row.params.items())[:12]]
    return "<br>".join(lines)


def _padded(scores: list[float | None]) -> list[float]:
    """The scores' range with room for markers and their numbers."""
    known = [score for score in scores if score is not None]
    span = (max(known) - min(known)) or abs(known[0]) * 0.1 or 1.0
    return [min(known) - 0.15 * span, max(known) + 0.2 * span]


def _why_not(run: Run) -> str:
    if run.rungs == 1:
        return "There is no rung below to compare with: the search was on the full network itself."
    if run.result.confirmation:
        return "No training of the full network has ended with a score."
    return "Nothing has been trained on the full network yet."
