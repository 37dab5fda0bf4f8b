"""Pictures of a comparison, from the record in ``compare.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import plotly.graph_objects as go

from prunetune.report.figures.base import NothingToShow, blank
from prunetune.report.theme import LIGHT
from prunetune.report.words import clip, number, plot_text

Row = Mapping[str, Any]

KINDS: Final = {
    "ceiling": ("the full network", "square", LIGHT["ink"]),
    "proxy": ("a proxy", "circle", LIGHT["kept"]),
    "rival": ("a rival", "diamond", LIGHT["pruned"]),
}
WIDE: Final = 8.0
"""Costs that differ by more are drawn on a logarithmic axis."""
TALL: Final = 2.0
"""A random pick whose regret is so many times all others' is not drawn: it would flatten them."""


@dataclass(frozen=True)
class Point:
    """A choice and what it cost: a row's first choice, or its best of several by the full network."""

    row: Row
    confirmed: bool
    cost: float
    regret: float
    low: float | None
    high: float | None


def points(rows: Sequence[Row]) -> list[Point]:
    """One or two of every row."""
    found = []
    for row in rows:
        for confirmed, cost, regret in ((False, "search_cost", "regret"), (True, "confirmed_cost", "regret_confirmed")):
            if row[regret] is not None:
                value = row[regret]
                found.append(Point(row, confirmed, row[cost], value["mean"], value["low"], value["high"]))
    return found


def front(found: Sequence[Point]) -> list[Point]:
    """Those that no other beats in cost without being beaten in regret, the cheapest first."""
    best: list[Point] = []
    for point in sorted(found, key=lambda each: (each.cost, each.regret)):
        if not best or point.regret < best[-1].regret:
            best.append(point)
    return best


def title(row: Row) -> str:
    """The way, and the optimizer where it is not random search."""
    return str(row["name"]) if row["optimizer"] == "random" else f"{row['name']}, {row['optimizer']}"


def pareto(rows: Sequence[Row], random_pick: float) -> go.Figure:
    """Regret against the cost of the search, each with and without confirmation, and who is beaten by nobody."""
    found = points(rows)
    if not found:
        raise NothingToShow("Nothing was compared.")
    cost = "cost of the search, in trainings of the full network"
    figure = blank("Regret against cost", height=520, x=cost, y="regret")
    best = front(found)
    line = {"color": LIGHT["best"], "width": 2, "shape": "hv"}
    figure.add_scatter(
        x=[each.cost for each in best], y=[each.regret for each in best], mode="lines", name="beaten by nobody",
        line=line, hoverinfo="skip",
    )  # fmt: skip
    for kind, (label, symbol, color) in KINDS.items():
        for confirmed in (False, True):
            some = [each for each in found if each.row["kind"] == kind and each.confirmed == confirmed]
            if some:
                name = f"{label}, confirmed" if confirmed else f"{label}, first choice"
                _scatter(figure, some, name, symbol if confirmed else f"{symbol}-open", color)
    _random_pick(figure, random_pick, max(each.regret if each.high is None else each.high for each in found))
    costs = [each.cost for each in found]
    if min(costs) > 0 and max(costs) / min(costs) > WIDE:
        ticks = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)]
        figure.update_xaxes(
            type="log", title_text=f"{cost} (log scale)", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=True)
    return figure


def _random_pick(figure: go.Figure, regret: float, highest: float) -> None:
    """A line where the regret of a random pick is; words alone where everything else is far below."""
    near = regret <= TALL * highest
    if near:
        figure.add_hline(y=regret, line={"color": LIGHT["line"], "dash": "dot", "width": 1})
    figure.add_annotation(
        text="a random pick" if near else f"a random pick: {number(regret)}, far above",
        xref="paper", x=1, xanchor="right", yanchor="bottom" if near else "top", showarrow=False,
        yref="y" if near else "paper", y=regret if near else 1, font={"color": LIGHT["muted"], "size": 12},
    )  # fmt: skip


def _scatter(figure: go.Figure, some: Sequence[Point], name: str, symbol: str, color: str) -> None:
    figure.add_scatter(
        x=[each.cost for each in some],
        y=[each.regret for each in some],
        mode="markers",
        name=name,
        marker={"symbol": symbol, "color": color, "size": 10, "line": {"color": color, "width": 1.5}},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [0.0 if each.high is None else each.high - each.regret for each in some],
            "arrayminus": [0.0 if each.low is None else each.regret - max(0.0, each.low) for each in some],
            "color": color,
            "thickness": 0.6,
            "width": 0,
        },
        hovertext=[_hover(each) for each in some],
        hoverinfo="text",
        cliponaxis=False,
    )


def _hover(point: Point) -> str:
    what = "the best of the first few by the full network" if point.confirmed else "the first choice"
    lines = [f"<b>{plot_text(title(point.row), 60)}</b>", what, f"cost {number(point.cost)}"]
    return "<br>".join([*lines, f"regret {number(point.regret)}"])


def ranks(rows: Sequence[Row]) -> go.Figure:
    """Rank correlation of every way, with its interval; the full network itself is the ceiling."""
    by_way = {row["name"]: row for row in rows if row["spearman"]["mean"] is not None}  # the same for all optimizers
    if not by_way:
        raise NothingToShow("No way has different scores for different configurations, so there is nothing to rank.")
    ordered = sorted(by_way.values(), key=lambda row: row["spearman"]["mean"])
    figure = blank("Rank correlation with the full network", height=110 + 26 * len(ordered), x="Spearman")
    for kind, (label, symbol, color) in KINDS.items():
        some = [row for row in ordered if row["kind"] == kind]
        if some:
            figure.add_scatter(
                x=[row["spearman"]["mean"] for row in some],
                y=[plot_text(row["name"], 50) for row in some],
                mode="markers",
                name=label,
                marker={"symbol": symbol, "color": color, "size": 10},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [row["spearman"]["high"] - row["spearman"]["mean"] for row in some],
                    "arrayminus": [row["spearman"]["mean"] - row["spearman"]["low"] for row in some],
                    "color": color,
                    "thickness": 1,
                },
                hovertext=[f"{plot_text(row['name'])}: {row['spearman']['mean']:.2f}" for row in some],
                hoverinfo="text",
            )
    names = [plot_text(row["name"], 50) for row in ordered]
    figure.update_yaxes(categoryorder="array", categoryarray=names)
    figure.update_layout(showlegend=True)
    return figure


def headline(rows: Sequence[Row]) -> str:
    """The way with the least regret if that is clear; else how many the noise leaves, and the cheapest of them."""
    found = [each for each in points(rows) if each.row["kind"] != "ceiling"]
    if not found:
        return "Nothing but the full network was trained."
    least = min(found, key=lambda each: (each.regret, each.cost))
    others = [each for each in found if each.row is not least.row]
    level = [each for each in others if _within_noise(least, each)]
    if others and not level:
        text = f"The least regret, {number(least.regret)}, was that of {_called(least)}"
    elif not others:
        text = f"The only way beside the full network, {_called(least)}, had a regret of {number(least.regret)}"
    else:
        cheapest = min((least, *level), key=lambda each: each.cost)
        near, all_ways = (len({id(each.row) for each in some}) for some in ((least, *level), found))
        text = (
            f"No way is clearly the best: the regrets of {near} of {all_ways} cannot be told from the least, "
            f"{number(least.regret)}, with so few seeds; the cheapest of them is {_called(cheapest)}"
        )
    whole = next((row for row in rows if row["kind"] == "ceiling"), None)
    if whole is not None:
        text += (
            f". Searching on the full network itself has a regret of {number(whole['regret']['mean'])} "
            f"and costs {number(whole['search_cost'])}"
        )
    return f"{text}."


def _within_noise(least: Point, other: Point) -> bool:
    """Whether two regrets may be equal: their intervals meet, or there is none."""
    return least.high is None or other.low is None or other.low <= least.high


def _called(point: Point) -> str:
    how = " with confirmation" if point.confirmed else ""
    return f"{clip(title(point.row), 80)}{how}, which cost {number(point.cost)} trainings of the full network"
