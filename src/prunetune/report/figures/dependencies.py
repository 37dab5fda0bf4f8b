"""The dependency graph: which layers share channels, and so are cut together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from prunetune.record.schema import LayerGroup
from prunetune.report.figures.base import MAX_POINTS_DRAWN, NothingToShow, blank, thinned
from prunetune.report.run import Run
from prunetune.report.theme import LIGHT
from prunetune.report.words import percent, plot_text, short_names

LABEL_LENGTH = 22  # characters: what a phone has room for beside the lanes
ROW_HEIGHT = 20  # pixels, for as many rows as there is room for
MAX_HEIGHT = 640
COLOURS = tuple(LIGHT[role] for role in ("kept", "pruned", "best", "failed", "diverged", "prune"))


def dependencies(run: Run) -> go.Figure:
    """A row for each layer, in the network's order, and a lane for each group of channels; made to be zoomed into.

    A filled dot: the group's channels are outputs of this layer. An open one: the layer reads them. A layer joins the
    lane that it reads to the lane that it makes.
    """
    pruning = run.result.pruning
    layers = pruning.layers if pruning else ()
    groups = [group for group in (pruning.groups if pruning else ()) if group.rows(len(layers))]
    if not groups:
        raise NothingToShow("The run has not recorded which layers share channels, so there is no dependency graph.")
    groups.sort(key=lambda group: group.rows(len(layers))[0])
    lanes = _lanes([group.rows(len(layers)) for group in groups])
    names = _unique(short_names([layer.name for layer in layers], LABEL_LENGTH))
    height = min(MAX_HEIGHT, ROW_HEIGHT * len(layers) + 110)
    figure = blank("Which layers are cut together", height=height)
    _draw_layers(figure, groups, lanes, names)
    placed = list(zip(groups, lanes, strict=True))
    for made in (True, False):
        for first, colour in enumerate(COLOURS[: len(placed)]):
            _draw_groups(figure, placed[first :: len(COLOURS)], names, colour, made=made, in_legend=first == 0)
    figure.update_xaxes(visible=False, range=[-0.7, max(lanes) + 0.7])
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=names,
        range=[len(names) - 0.4, -0.6],
        ticks="outside",
        ticklen=4,
        tickfont={"size": 12},
        showgrid=False,
    )
    figure.update_layout(dragmode="pan", meta={"zoomable": True})
    return figure


def _lanes(rows: Sequence[Sequence[int]]) -> list[int]:
    """For each group the first lane from the left that is free from its first row to its last.

    >>> _lanes([(0, 5), (1, 2), (3, 4), (6, 7)])
    [0, 1, 1, 0]
    """
    ends: list[int] = []
    found = []
    for each in rows:
        lane = next((i for i, end in enumerate(ends) if end < each[0]), len(ends))
        ends[lane : lane + 1] = [each[-1]]
        found.append(lane)
    return found


def _draw_layers(figure: go.Figure, groups: Sequence[LayerGroup], lanes: Sequence[int], names: Sequence[str]) -> None:
    """A thin line for each layer, from the leftmost to the rightmost lane that it has a dot on."""
    touched: dict[int, list[int]] = {}
    for group, lane in zip(groups, lanes, strict=True):
        for row in group.rows(len(names)):
            touched.setdefault(row, []).append(lane)
    x: list[float | None] = []
    y: list[str | None] = []
    for row in range(len(names)):  # rows that touch no lane, too: the axis knows a row by its first point
        ends = touched.get(row, [0])
        x += [min(ends), max(ends), None]
        y += [names[row], names[row], None]
    look = {"color": LIGHT["other"], "width": 1}
    figure.add_scatter(x=x, y=y, mode="lines", line=look, hoverinfo="skip", showlegend=False)


def _draw_groups(
    figure: go.Figure,
    groups: Sequence[tuple[LayerGroup, int]],
    names: Sequence[str],
    colour: str,
    *,
    made: bool,
    in_legend: bool,
) -> None:
    """The dots of these groups where layers make their channels (and their lanes), or where layers read them."""
    label = "makes" if made else "reads"
    if made:
        x: list[float | None] = []
        y: list[str | None] = []
        for group, lane in groups:
            rows = group.rows(len(names))
            x += [lane, lane, None]
            y += [names[rows[0]], names[rows[-1]], None]
        line = {"color": colour, "width": 2}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    dots = thinned(list(_dots(groups, names, made=made)), MAX_POINTS_DRAWN // len(COLOURS))
    figure.add_scatter(
        x=[lane for lane, _, _ in dots],
        y=[name for _, name, _ in dots],
        mode="markers",
        marker={
            "symbol": "circle" if made else "circle-open",
            "size": 9,
            "color": colour,
            "line": {"color": colour, "width": 2},
        },
        hovertext=[words for _, _, words in dots],
        hoverinfo="text",
        name=label,
        legendgroup=label,
        showlegend=in_legend,
    )


def _dots(
    groups: Sequence[tuple[LayerGroup, int]], names: Sequence[str], *, made: bool
) -> Iterator[tuple[int, str, str]]:
    for group, lane in groups:
        kept = f", {percent(group.after / group.before)} kept" if group.before else ""
        words = f"<b>{plot_text(group.name)}</b><br>{group.before:,} → {group.after:,} channels{kept}"
        for row in group.made_by if made else group.read_by:
            if 0 <= row < len(names):
                yield lane, names[row], f"{words}<br>{'made' if made else 'read'} by {names[row]}"


def _unique(names: Sequence[str]) -> list[str]:
    """The names for an axis that knows its rows by them: those that are there twice are numbered.

    >>> _unique(["conv", "fc", "conv"])
    ['conv', 'fc', 'conv (2)']
    """
    seen: Counter[str] = Counter()
    found = []
    for name in (plot_text(name, LABEL_LENGTH) for name in names):
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
