"""What the proxy costs beside the base, and where the time went."""

from __future__ import annotations

import plotly.graph_objects as go

from prunetune.report.figures.base import NothingToShow, blank
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.words import duration, percent, quantity

MEASURES = (
    ("parameters", "parameters", quantity),
    ("FLOPs", "flops", quantity),
    ("step time", "step_seconds", duration),
)


def cost_shares(run: Run) -> list[tuple[str, float, str, str]]:
    """For each measure that both networks have: its name, the proxy's share of the base, both values in words."""
    cost = run.result.cost
    if cost is None or cost.base is None or cost.proxy is None:
        return []
    shares = []
    for label, name, words in MEASURES:
        base, proxy = getattr(cost.base, name), getattr(cost.proxy, name)
        if base and proxy is not None:
            shares.append((label, proxy / base, words(base), words(proxy)))
    return shares


def proxy_cost(run: Run) -> go.Figure:
    """The proxy's parameters, FLOPs and step time as percent of the base's."""
    shares = cost_shares(run)
    if not shares:
        raise NothingToShow("The run has not measured the cost of both networks yet.")
    figure = blank(f"What {run.first} costs, as percent of the full network", height=60 + 40 * len(shares))
    labels = [label for label, *_ in shares]
    figure.add_bar(
        orientation="h",
        x=[100 * share for _, share, *_ in shares],
        y=labels,
        name=run.first,
        marker={"color": LIGHT["kept"], "line": {"color": LIGHT["line"], "width": 1}},
        text=[percent(share) for _, share, *_ in shares],
        textposition="outside",
        cliponaxis=False,
        hovertext=[f"{label}: {base} → {proxy}" for label, _, base, proxy in shares],
        hoverinfo="text",
        showlegend=False,
    )
    largest = max(100.0, *(100 * share for _, share, *_ in shares))
    figure.update_xaxes(range=[0, largest * 1.02], ticksuffix=" %", nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def time_spent(run: Run) -> go.Figure:
    """Time by phase as one stacked bar, above the estimate of the same search on the full network."""
    time = run.result.time
    phases = phase_seconds(run)
    if time is None or not phases:
        raise NothingToShow("The run has not recorded any time yet.")
    estimate = time.search_on_base_estimate
    unit, size = _unit(max(sum(seconds for _, seconds, _ in phases), estimate or 0.0))
    other = run.compared_with.removeprefix("the ").replace(" ", "<br>", 1)
    rows = ["this run"] + ([f"{other}<br>(estimate)"] if estimate else [])
    figure = blank("Time by phase", height=190 + 50 * len(rows), x=unit)
    for label, seconds, color in phases:
        figure.add_bar(
            orientation="h",
            x=[seconds / size],
            y=rows[:1],
            name=label,
            marker={"color": color, "line": {"color": LIGHT["background"], "width": 1}},
            hovertext=[f"{label}: {duration(seconds)}"],
            hoverinfo="text",
        )
    if estimate:
        figure.add_bar(
            orientation="h",
            x=[estimate / size],
            y=rows[1:],
            name="estimate",
            marker={
                "color": LIGHT["removed"],
                "line": {"color": LIGHT["line"], "width": 1},
                "pattern": {"shape": "/", "fgcolor": LIGHT["line"], "size": 7, "solidity": 0.15},
            },
            hovertext=[f"estimate: {duration(estimate)}"],
            hoverinfo="text",
        )
    figure.update_layout(barmode="stack", bargap=0.35, legend={"traceorder": "normal"})
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(rangemode="tozero", nticks=6)
    return figure


def phase_seconds(run: Run) -> list[tuple[str, float, str]]:
    """Phase, seconds and colour; what the total has beyond the phases is everything else."""
    time = run.result.time
    if time is None:
        return []
    named = [
        ("cut and time networks", time.prune, LIGHT["prune"]),
        ("start the energy meter", time.measure, LIGHT["pruned"]),
        ("rung 1", time.search, LIGHT["kept"]),
        ("the rungs between", time.climb, LIGHT["pruned"]),
        ("train in full", time.confirm, LIGHT["best"]),
    ]
    phases = [(label, seconds, color) for label, seconds, color in named if seconds]
    rest = (time.total or 0.0) - sum(seconds for _, seconds, _ in phases)
    if rest > 0.005 * (time.total or 0.0):
        phases.append(("everything else", rest, LIGHT["other"]))
    return phases


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
