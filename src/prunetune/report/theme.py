"""One palette for the page and all figures, light and dark.

Figures are drawn in the light colours. The dark ones are found by looking each colour up, once here (``dark``) and once
in the page's script, so that a figure never has to be made twice. For this every light colour has one role only.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

LIGHT = {
    "background": "#ffffff",
    "surface": "#f4f6f8",
    "ink": "#1d2530",
    "muted": "#566270",
    "line": "#7a8694",
    "grid": "#e2e6eb",
    "kept": "#0f6cbd",
    "removed": "#d3dae2",
    "other": "#8b96a3",
    "best": "#14804a",
    "pruned": "#b26200",
    "diverged": "#b3261e",
    "failed": "#7b2fa8",
    "prune": "#b0357f",
}
DARK = {
    "background": "#14171c",
    "surface": "#1d2229",
    "ink": "#e6e9ee",
    "muted": "#a3aebb",
    "line": "#7b8898",
    "grid": "#2b323b",
    "kept": "#5aa9e6",
    "removed": "#39424e",
    "other": "#76818f",
    "best": "#4cc38a",
    "pruned": "#e5a04b",
    "diverged": "#f4877f",
    "failed": "#c89bf2",
    "prune": "#ee86c0",
}
DARK_OF = {LIGHT[role]: DARK[role] for role in LIGHT}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def template() -> go.layout.Template:
    """The look that all figures share, in light colours."""
    axis = {
        "gridcolor": LIGHT["grid"],
        "linecolor": LIGHT["line"],
        "tickcolor": LIGHT["line"],
        "zeroline": False,
        "automargin": True,
        "ticklabelstandoff": 4,
        "title": {"font": {"size": 13}, "standoff": 8},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": LIGHT["ink"]},
            "title": {"x": 0, "xanchor": "left", "font": {"size": 16}},
            "paper_bgcolor": LIGHT["background"],
            "plot_bgcolor": LIGHT["background"],
            "colorway": [LIGHT[role] for role in ("kept", "best", "pruned", "failed", "prune", "diverged")],
            "hoverlabel": {
                "bgcolor": LIGHT["surface"],
                "bordercolor": LIGHT["line"],
                "font": {"color": LIGHT["ink"], "size": 13},
                "align": "left",
            },
            "hovermode": "closest",
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
            "margin": {"l": 10, "r": 16, "t": 60, "b": 10},
            "xaxis": axis,
            "yaxis": axis,
            "bargap": 0.25,
        }
    )


def dark(figure: go.Figure) -> go.Figure:
    """A copy of a report's figure in dark colours."""
    return go.Figure(_recoloured(figure.to_plotly_json(), coloured=False))


def _recoloured(value: Any, *, coloured: bool) -> Any:
    if isinstance(value, dict):
        return {key: _recoloured(item, coloured=coloured or "color" in key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_recoloured(item, coloured=coloured) for item in value]
    return DARK_OF.get(value, value) if coloured and isinstance(value, str) else value
