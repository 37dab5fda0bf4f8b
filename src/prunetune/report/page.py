"""The report as one HTML file.

Decisions
---------
*plotly.js travels inside the page, compressed.* The script has 4.8 MB, which alone would all but fill the 5 MB that a
report may have; gzip and base64 make 2 MB of it, and the page's own script inflates it with the browser's
``DecompressionStream`` (all browsers since May 2023). Where that is missing, or scripts are off, every picture is
replaced by its table, which is in the page as plain HTML anyway, for screen readers. Static pictures would have been
smaller but could not be pointed at or zoomed into; plotly's smaller bundles are not on PyPI.

*A run folder is someone else's text.* Three walls stand between it and the reader: jinja2 escapes all of it (figures
escape it once more for plotly's own small HTML, and their data is base64 like the script); a content security policy in
the page lets no script run but the two whose SHA-256 it names; and the same policy forbids every network request, so
that even plotly can make none.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunetune._version import __version__
from prunetune.report import figures, tables, words
from prunetune.report.ladder import cost_sentence, ladder_sentences
from prunetune.report.next_steps import next_steps
from prunetune.report.prose import headline, lead
from prunetune.report.run import Run
from prunetune.report.tables import Table
from prunetune.report.theme import DARK, DARK_OF, LIGHT, template
from prunetune.report.trials import parameters

MAX_SLICES = 24
NOTES = {
    "dependencies": (
        "A lane for each group of channels, filled where a layer makes them, open where it reads them. "
        "Buttons zoom; with the crossed arrows on, drag to move."
    )
}


@dataclass(frozen=True)
class Picture:
    """A figure in the page, or the sentence that says why there is none, and the table that says the same."""

    id: str
    title: str
    label: str
    height: int
    why_not: str = ""
    table: Table | None = None
    note: str = ""


class Album:
    """The page's pictures: draws each, keeps its JSON for the script, and hands the template what it needs."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def picture(
        self,
        name: str,
        draw: Callable[[], go.Figure],
        *,
        label: str,
        table: Table | None = None,
        note: str = "",
    ) -> Picture:
        """The picture that ``draw`` makes. ``label`` is what a screen reader says in its place."""
        name = f"figure-{name}"
        try:
            figure = draw()
        except figures.NothingToShow as reason:
            return Picture(name, "", label, 0, why_not=str(reason), table=table)
        title = _plain(figure.layout.title.text)
        height = int(figure.layout.height)
        figure.layout.title = None
        buttons = 26 if figure.layout.meta else 0  # of a figure that can be zoomed into, above its legend
        figure.update_layout(margin={"t": buttons + (36 if _has_legend(figure) else 12)})  # the page has the title
        plain = json.loads(figure.to_json())
        plain["layout"].pop("template", None)
        self.data[name] = plain
        return Picture(name, title, label, height, table=table, note=note)


def _has_legend(figure: go.Figure) -> bool:
    named = [trace for trace in figure.data if trace.showlegend is not False]
    return len(named) > 1 if figure.layout.showlegend is None else bool(figure.layout.showlegend)


def _plain(title: str) -> str:
    """A figure's title without plotly's escapes: jinja2 escapes it again."""
    return title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def write_page(run: Run, path: Path) -> Path:
    """Path of the page, complete or not written at all: it is renamed into place."""
    return write_whole(render(run), path)


def write_whole(page: str, path: Path) -> Path:
    """Put ``page`` into the file at ``path``, as a whole."""
    beside = path.with_name(f".writing-{path.name}")
    beside.unlink(missing_ok=True)
    try:
        with beside.open("xb") as file:  # never through a link that someone left in the folder
            file.write(page.encode("utf-8", "replace"))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def render(run: Run) -> str:
    """The page as text."""
    album = Album()
    context = {
        "run": run,
        "result": run.result,
        "headline": headline(run),
        "lead": lead(run),
        "tables": tables,
        "pictures": _pictures(run, album),
        "slices": _slices(run, album),
        "ladder_cost": cost_sentence(run),
        "ladder_said": ladder_sentences(run),
        "next_steps": next_steps(run),
        "rank_correlation": figures.rank_correlation(run),
        "exact_params": json.dumps(run.best_params, indent=2, ensure_ascii=False),
    }
    return framed("report.html.j2", context, album)


def framed(name: str, context: Mapping[str, Any], album: Album) -> str:
    """The page that the template of that name makes in the frame that all pages share, with the album's pictures."""
    script = _asset("report.js")
    packed, plotly_hash = _plotly()
    shared = {
        "words": words,
        "light": LIGHT,
        "dark": DARK,
        "css": Markup(_asset("report.css")),
        "script": Markup(script),
        "plotly": Markup(packed),
        "hashes": f"'sha256-{_sha256(script)}' 'sha256-{plotly_hash}'",
        "figures": Markup(_packed(json.dumps({"figures": album.data, "template": _look(), "darkOf": DARK_OF}))),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": __version__,
    }
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render({**context, **shared})


def _pictures(run: Run, album: Album) -> dict[str, Picture]:
    """All pictures but the slices, by the name that the template knows them by."""
    ended = f"{len(run.trials)} trials"
    every = tables.trials(run)
    asked = {
        "ladder": (
            figures.ladder,
            tables.went_up(run),
            "Line plot: the score of each configuration on every rung that it came to, the winner marked.",
        ),
        "proxy_cost": (
            figures.proxy_cost,
            tables.costs(run),
            f"Bars: parameters, FLOPs and step time of {run.first} as percent of the full network.",
        ),
        "groups_cut": (
            figures.groups_cut,
            tables.groups(run),
            "Stacked bars: for each group of layers, how many channels were kept and how many were removed.",
        ),
        "dependencies": (
            figures.dependencies,
            tables.dependencies(run),
            "Graph: a row for each layer, a lane for each group of channels, a dot where a layer makes or reads them.",
        ),
        "layers_cut": (
            figures.layers_cut,
            tables.layers(run),
            "Stacked bars: for each layer, how many weights were kept and how many were removed.",
        ),
        "search_history": (
            figures.search_history,
            every,
            f"Scatter plot: scores of {ended} in order, by outcome, with the best so far as a line.",
        ),
        "learning_curves": (
            figures.learning_curves,
            tables.curves(f"Scores by epoch on {run.first}", run.trials),
            f"Line plot: the score of each of {ended} epoch by epoch, by outcome.",
        ),
        "rungs": (
            figures.rungs,
            tables.rungs(run),
            f"Stacked bars: after which epoch each of {ended} ended, by outcome.",
        ),
        "importances": (
            figures.importances,
            tables.importance(run),
            "Bars: the share of each hyperparameter in reaching the best scores.",
        ),
        "parallel_coordinates": (
            figures.parallel_coordinates,
            None,
            f"Parallel coordinates: {ended} as lines from hyperparameters to score, as in the table of trials.",
        ),
        "confirmation": (
            figures.confirmation,
            None,
            f"Scatter plot: score on {run.below} against score on the full network, as in the table below.",
        ),
        "confirmation_curves": (
            figures.confirmation_curves,
            tables.curves("Scores by epoch on the full network", run.confirm_trials),
            "Line plot: the score of each confirmation epoch by epoch on the full network.",
        ),
        "time_spent": (
            figures.time_spent,
            tables.times(run),
            f"Stacked bar: the time of each phase, beside the estimate of {run.compared_with}.",
        ),
    }
    return {
        name: album.picture(name, functools.partial(draw, run), label=label, table=table, note=NOTES.get(name, ""))
        for name, (draw, table, label) in asked.items()
    }


def _slices(run: Run, album: Album) -> list[Picture]:
    """One picture for each hyperparameter, where any trial has a score."""
    names = list(parameters(run.trials))[:MAX_SLICES]
    drawn = [
        album.picture(
            f"slice_{index}",
            functools.partial(figures.parameter_slice, run, name),
            label=f"Scatter plot: score of the trials against {words.clip(name, 60)}, as in the table of trials.",
        )
        for index, name in enumerate(names)
    ]
    return [picture for picture in drawn if not picture.why_not]


def _look() -> Any:
    """The figures' theme, once for all of them."""
    return json.loads(go.Figure(layout={"template": template()}).to_json())["layout"]["template"]


def _asset(name: str) -> str:
    return files("prunetune.report").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> tuple[str, str]:
    """plotly.js, gzipped as base64, and the SHA-256 that the page's policy knows it by."""
    source = get_plotlyjs()
    return _packed(source), _sha256(source)


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), compresslevel=9, mtime=0)).decode("ascii")


def _sha256(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")
