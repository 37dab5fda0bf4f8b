"""The groups of a network as a picture, or as a file for other tools to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path

from prunetune.engine.dependency import DependencyGraph, Group
from prunetune.errors import InputError

ROW, TEXT, LEFT, LANE = 18, 11, 12, 14
"""Pixels: a row's height, the size of the letters, the margin, and the width of a group's lane."""
COLOURS = ("#4269d0", "#c26a00", "#c9303e", "#3a8f86", "#2f8f4e", "#8a5bc2", "#8b6a4f", "#b8508f")


def draw(graph: DependencyGraph, path: str | Path) -> None:
    """Write the groups and the tensors they are cut from to a file, in the format that its name ends with.

    `.svg`: a picture. A line for each parameter in the model's order; a lane for each group, with a dot where it is the
    parameter's output, a circle where it is its input. `.graphml` and `.json`: the bipartite graph of
    `graph.networkx()`, for yEd, Gephi and Cytoscape, and as node-link data.

    Raises
    ------
    InputError
        If the file's name ends otherwise, or it cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"cannot draw {str(path)!r}: its name must end with one of {', '.join(_WRITERS)}")
    try:
        path.write_text(write(graph), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error}") from error


def _graphml(graph: DependencyGraph) -> str:
    import networkx

    return "\n".join(networkx.generate_graphml(graph.networkx())) + "\n"


def _json(graph: DependencyGraph) -> str:
    import networkx

    return json.dumps(networkx.node_link_data(graph.networkx(), edges="edges"), indent=1) + "\n"


def _svg(graph: DependencyGraph) -> str:
    """Lanes are given out from left to right, and again as soon as their group has ended."""
    tensors = [name for name in graph.shapes if name in graph.parameters and len(graph.shapes[name]) > 1]
    row = {name: i for i, name in enumerate(tensors)}
    spans = [(group, sorted({row[name] for name, _ in group.axes if name in row})) for group in graph.groups]
    spans = [(group, rows) for group, rows in spans if rows]
    lanes: list[int] = []
    parts: list[str] = []
    texts = [f"{name} {'x'.join(map(str, graph.shapes[name]))}" for name in tensors]
    across = LEFT + 0.62 * TEXT * max(map(len, texts), default=0) + LANE
    for number, (group, rows) in enumerate(sorted(spans, key=lambda span: span[1][0])):
        lane = next((i for i, end in enumerate(lanes) if end < rows[0]), len(lanes))
        lanes[lane : lane + 1] = [rows[-1]]
        parts.extend(_lane(group, rows, row, across + lane * LANE, COLOURS[number % len(COLOURS)]))
    names = [f'<text x="{LEFT}" y="{_y(i) + 4:g}">{escape(text)}</text>' for i, text in enumerate(texts)]
    width, height = across + len(lanes) * LANE + LEFT, _y(len(tensors)) + LEFT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="ui-monospace, monospace" font-size="{TEXT}">'
    )
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, background, *names, *parts, "</svg>"]) + "\n"


def _y(row: int) -> float:
    return LEFT + ROW * (row + 0.5)


def _lane(group: Group, rows: list[int], row: dict[str, int], x: float, colour: str) -> list[str]:
    title = f"<title>{escape(group.name)}: {len(group)} units</title>"
    line = f'<line x1="{x:g}" x2="{x:g}" y1="{_y(rows[0]):g}" y2="{_y(rows[-1]):g}" stroke="{colour}"/>'
    made = {row[name] for name, _ in group.producers if name in row}
    dots = [
        f'<circle cx="{x:g}" cy="{_y(i):g}" r="4" stroke="{colour}" fill="{colour if i in made else "#ffffff"}"/>'
        for i in rows
    ]
    return [f'<g stroke-width="1.5">{title}{line}{"".join(dots)}</g>']


_WRITERS: dict[str, Callable[[DependencyGraph], str]] = {".svg": _svg, ".graphml": _graphml, ".json": _json}
