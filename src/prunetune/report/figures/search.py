"""What the search did, trial by trial and hyperparameter by hyperparameter."""

from __future__ import annotations

import math
import warnings
from typing import Any

import optuna
import plotly.graph_objects as go

from prunetune.report.figures.base import (
    LOOKS,
    NothingToShow,
    blank,
    count_axis,
    drawn_trials,
    hover,
    is_wide,
    marker,
    no_trials,
    score_axis,
    with_outcome,
)
from prunetune.report.figures.curves import draw_curves
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.trials import Scale, Trial, parameters, scale_of
from prunetune.report.words import number, percent, plot_text

SCORED = ("complete", "pruned")
FEWEST_FOR_IMPORTANCE = 4


def search_history(run: Run) -> go.Figure:
    """Scores in the order of the trials, with the best so far; trials without a score of use in a strip below."""
    if not run.trials:
        raise no_trials(run)
    trials = drawn_trials(run)
    scored = [trial for trial in trials if trial.outcome in SCORED and trial.score is not None]
    unscored = [trial for trial in trials if trial not in scored]
    figure = blank("Score of every trial, in order", height=460, x="trial", y=f"score on {run.first}")
    for outcome in SCORED:
        _points(figure, with_outcome(scored, outcome), outcome, "y")
    _best_so_far(figure, run)
    for outcome in LOOKS:
        _points(figure, with_outcome(unscored, outcome), outcome, "y2")
    _winner_star(figure, run)
    score_axis(figure, [trial.score for trial in scored if trial.score is not None], title=f"score on {run.first}")
    if unscored:
        figure.update_layout(
            yaxis={"domain": [0.17, 1] if scored else [0.99, 1], "visible": bool(scored)},
            yaxis2={"domain": [0, 0.1], "range": [-1, 1], "fixedrange": True},
            yaxis2_showticklabels=False,
            yaxis2_showgrid=False,
            xaxis={"anchor": "y2"},
        )
        figure.add_annotation(
            text="no score", xref="paper", yref="paper", x=0, y=0.1, xanchor="left", yanchor="bottom", showarrow=False,
            font={"color": LIGHT["muted"], "size": 12},
        )  # fmt: skip
    last = max(trial.number for trial in run.trials)
    figure.update_xaxes(range=[-0.6 - 0.015 * last, last + 0.6 + 0.015 * last])
    count_axis(figure, last)
    figure.update_layout(showlegend=True)
    return figure


def _points(figure: go.Figure, trials: list[Trial], outcome: str, axis: str) -> None:
    if trials:
        figure.add_scatter(
            x=[trial.number for trial in trials],
            y=[trial.score if axis == "y" else 0 for trial in trials],
            yaxis=axis,
            mode="markers",
            name=LOOKS[outcome].label,
            marker=marker(outcome),
            hovertext=[hover(trial) for trial in trials],
            hoverinfo="text",
            cliponaxis=False,
        )


def _best_so_far(figure: go.Figure, run: Run) -> None:
    x: list[int] = []
    y: list[float] = []
    for trial in with_outcome(run.trials, "complete"):
        if trial.score is not None and (not y or run.rank_key(trial.score) < run.rank_key(y[-1])):
            x.append(trial.number)
            y.append(trial.score)
    if y:
        x.append(run.trials[-1].number)
        y.append(y[-1])
        line = {"color": LIGHT["best"], "width": 2, "shape": "hv"}
        figure.add_scatter(x=x, y=y, mode="lines", name="best so far", line=line, hoverinfo="skip")


def _winner_star(figure: go.Figure, run: Run) -> None:
    winner = run.result.winner.trial if run.result.winner else None
    for trial in run.trials:
        if trial.number == winner and trial.score is not None:
            figure.add_scatter(
                x=[trial.number],
                y=[trial.score],
                mode="markers",
                name=f"winner (trial {trial.number})",
                marker={"symbol": "star", "size": 17, "color": LIGHT["best"]},
                marker_line={"color": LIGHT["ink"], "width": 1},
                hovertext=[hover(trial)],
                hoverinfo="text",
                cliponaxis=False,
            )


def learning_curves(run: Run) -> go.Figure:
    """Reported scores of every trial on the proxy, epoch by epoch."""
    if not run.trials:
        raise no_trials(run)
    return draw_curves(run, drawn_trials(run), f"Learning curves on {run.first}", "learning curves")


def parallel_coordinates(run: Run) -> go.Figure:
    """A line for each trial through its hyperparameters and down to its score.

    The axes lie across, one below the other, so that any number of them fits a phone. Lines of trials that were
    stopped early or diverged end above the score, which would not be comparable.
    """
    scales = {name: scale_of(distribution) for name, distribution in parameters(run.trials).items()}
    trials = [trial for trial in drawn_trials(run) if trial.params]
    complete = sorted(
        (trial for trial in trials if trial.outcome == "complete" and trial.score is not None),
        key=lambda trial: run.rank_key(trial.score),
    )
    if len(complete) < 2:
        raise NothingToShow("Parallel coordinates need at least two complete trials.")
    scores = [trial.score for trial in complete if trial.score is not None]
    score = Scale(min(scores), max(scores), log=is_wide(scores))
    quarter = max(2, len(complete) // 4)
    figure = blank("Parallel coordinates: from the hyperparameters to the score", height=110 + 84 * (len(scales) + 1))
    for label, group, color, width, dash in (
        ("stopped early or without score", [t for t in trials if t not in complete], LIGHT["removed"], 1.0, "dot"),
        ("other complete", complete[quarter:], LIGHT["other"], 1.0, "solid"),
        ("best quarter", complete[1:quarter], LIGHT["kept"], 1.8, "solid"),
        (f"best (trial {complete[0].number})", complete[:1], LIGHT["best"], 4.0, "solid"),
    ):
        if group:
            _threads(figure, group, scales, score, label, {"color": color, "width": width, "dash": dash})
    _rails(figure, [*scales.items(), (f"score on {run.first}", score)])
    figure.update_xaxes(range=[-0.04, 1.04], visible=False)
    figure.update_yaxes(range=[-0.5, len(scales) + 0.45], visible=False)
    figure.update_layout(showlegend=True, margin={"l": 4, "r": 4, "b": 4})
    return figure


def _threads(
    figure: go.Figure, trials: list[Trial], scales: dict[str, Scale], score: Scale, label: str, line: dict[str, Any]
) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    words: list[str] = []
    for trial in trials:
        stops = [scales[name].place(trial.params[name]) if name in trial.params else None for name in scales]
        if trial.outcome == "complete":
            stops.append(score.place(trial.score))
        x += [*stops, None]
        y += [*range(len(scales), len(scales) - len(stops), -1), None]
        words += [hover(trial)] * len(stops) + [""]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=label,
        line=line,
        marker={"size": line["width"] + 3, "color": line["color"]},
        hovertext=words,
        hoverinfo="text",
        cliponaxis=False,
    )


def _rails(figure: go.Figure, axes: list[tuple[str, Scale]]) -> None:
    """The axes: a line across with its name above and its values below."""
    for level, (name, scale) in zip(range(len(axes) - 1, -1, -1), axes, strict=True):
        figure.add_shape(type="line", x0=0, x1=1, y0=level, y1=level, line={"color": LIGHT["line"], "width": 1.5})
        figure.add_annotation(
            x=0, y=level, text=f"<b>{plot_text(name, 40)}</b>", xanchor="left", yanchor="bottom", yshift=6,
            showarrow=False, bgcolor=LIGHT["background"], opacity=0.9,
        )  # fmt: skip
        for value in scale.ticks():
            place = scale.place(value)
            if place is not None:
                figure.add_annotation(
                    x=place, y=level, text=plot_text(value, 14), yanchor="top", yshift=-5, showarrow=False,
                    xanchor="left" if place < 0.02 else "right" if place > 0.98 else "center",
                    font={"size": 12, "color": LIGHT["muted"]}, bgcolor=LIGHT["background"], opacity=0.9,
                )  # fmt: skip


def parameter_slice(run: Run, parameter: str) -> go.Figure:
    """Score against one hyperparameter; hollow where the trial was stopped early."""
    distributions = parameters(run.trials)
    if parameter not in distributions:
        raise NothingToShow(f"No trial has a hyperparameter “{plot_text(parameter)}”.")
    scale = scale_of(distributions[parameter])
    scored = [
        trial
        for trial in drawn_trials(run)
        if trial.outcome in SCORED and trial.score is not None and scale.holds(trial.params.get(parameter))
    ]
    if not scored:
        raise NothingToShow(f"No trial with the hyperparameter “{plot_text(parameter)}” has a score.")
    figure = blank(f"Score against {plot_text(parameter, 60)}", height=300, x=plot_text(parameter, 40), y="score")
    for outcome in SCORED:
        group = with_outcome(scored, outcome)
        if group:
            values = [trial.params[parameter] for trial in group]
            figure.add_scatter(
                x=values if scale.choices is None else [scale.choices.index(value) for value in values],
                y=[trial.score for trial in group],
                mode="markers",
                name=LOOKS[outcome].label,
                marker=marker(outcome, size=8),
                hovertext=[hover(trial) for trial in group],
                hoverinfo="text",
                cliponaxis=False,
            )
    if scale.choices is not None:
        labels = [plot_text(choice, 14) for choice in scale.choices]
        figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, range=[-0.5, len(labels) - 0.5])
    elif scale.high > scale.low:
        ends = [math.log10(end) if scale.log else end for end in (scale.low, scale.high)]
        room = 0.05 * (ends[1] - ends[0])
        figure.update_xaxes(type="log" if scale.log else "linear", range=[ends[0] - room, ends[1] + room], nticks=6)
        if scale.log:
            ticks = scale.ticks()
            figure.update_xaxes(tickvals=ticks, ticktext=[plot_text(tick, 14) for tick in ticks])
    score_axis(figure, [trial.score for trial in scored if trial.score is not None])
    figure.update_layout(showlegend=len(figure.data) > 1)
    return figure


def importance_values(run: Run) -> dict[str, float]:
    """Share of each hyperparameter in reaching the best tenth of the scores, largest first; they sum to one.

    PED-ANOVA (Watanabe et al., IJCAI 2023) as Optuna computes it, of the complete trials that did not diverge.
    """
    trials = [t for t in run.trials if t.outcome == "complete" and t.score is not None]
    varied = {
        name
        for name in parameters(tuple(trials))
        if len({str(trial.params[name]) for trial in trials if name in trial.params}) > 1
    }
    if len(trials) < FEWEST_FOR_IMPORTANCE:
        raise NothingToShow(
            f"Importances need at least {FEWEST_FOR_IMPORTANCE} complete trials; there are {len(trials)} so far."
        )
    if len(varied) < 2:
        raise NothingToShow("Importances compare hyperparameters; fewer than two of them were varied.")
    if len({trial.score for trial in trials}) < 2:
        raise NothingToShow("All complete trials have the same score, so no hyperparameter can be told to matter.")
    with warnings.catch_warnings():  # it is experimental in Optuna 4, and warns of few trials, as the page does itself
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(
            _study_of(trials, run), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )


def _study_of(trials: list[Trial], run: Run) -> optuna.Study:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # "A new study created in memory" is no news to anyone
    try:
        study = optuna.create_study(direction=run.result.direction)
    finally:
        optuna.logging.set_verbosity(level)
    study.add_trials([trial.frozen for trial in trials])
    return study


def importances(run: Run) -> go.Figure:
    """How much each hyperparameter matters for reaching the best tenth of the scores."""
    if not run.trials:
        raise no_trials(run)
    values = importance_values(run)
    names = list(values)
    figure = blank("Importance of each hyperparameter", height=90 + 34 * len(names), x="share of importance")
    figure.add_bar(
        orientation="h",
        x=[values[name] for name in names],
        y=list(range(len(names))),
        marker={"color": LIGHT["kept"], "line": {"color": LIGHT["line"], "width": 1}},
        text=[percent(values[name]) for name in names],
        textposition="outside",
        cliponaxis=False,
        hovertext=[f"{plot_text(name)}: {number(values[name])}" for name in names],
        hoverinfo="text",
        showlegend=False,
    )
    figure.update_xaxes(range=[0, (max(values.values()) or 1.0) * 1.35], tickformat=".0%", nticks=6)
    figure.update_yaxes(
        autorange="reversed",
        tickvals=list(range(len(names))),
        ticktext=[plot_text(name, 22) for name in names],
        showgrid=False,
    )
    return figure
