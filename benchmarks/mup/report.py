"""From the rows of `benchmarks.mup`: slopes over the width, best learning rates, tables and figures."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.common.command import provenance
from benchmarks.common.tables import table
from benchmarks.mup.cases import DEFAULT, MEASURED
from benchmarks.mup.runs import MUP, RULES, STEPS, Row, Scale, Task
from prunetune.report.theme import LIGHT, template

LABELS: Final = {MUP: "mup", "norm-aware": "norm-aware", "identity": "as they are", MEASURED: "measured"}


def summary(rows: Sequence[Row], scale: Scale) -> dict[str, Any]:
    """By task and rule: how sizes and moves depend on the width, and where the best learning rate is."""
    found: dict[str, Any] = {"coordinates": {}, "rates": {}}
    for task in scale.tasks:
        for rule in RULES:
            played = task.played_as(rule)
            own = [row for row in rows if row["task"] == task.name and (row["rule"] == played or row["width"] == 1)]
            by_width = {width: [row for row in own if row["width"] == width] for width in task.sizes(scale)}
            parts = {
                part: {width: [row for row in each if row["part"] == part] for width, each in by_width.items()}
                for part in ("coordinates", "rates")
            }
            if task.step is not None:
                found["coordinates"].setdefault(task.name, {})[rule] = coordinate_slopes(parts["coordinates"])
            if task.rates:
                found["rates"].setdefault(task.name, {})[rule] = best_rates(parts["rates"], task)
    found["default_rule_slopes"] = {task: rules[DEFAULT]["slope"] for task, rules in found["rates"].items()}
    return found


def slope(widths: Iterable[float], values: Iterable[float]) -> float | None:
    """By least squares, of the logarithm of the values over that of the widths; 0: no dependence.

    None where a value is 0, as the logits of a readout of zeros are.

    >>> round(slope([1, 0.5, 0.25], [8, 2, 0.5]), 6)
    2.0
    """
    values = list(values)
    return float(np.polyfit(np.log(list(widths)), np.log(values), 1)[0]) if all(values) else None


def coordinate_slopes(rows: Mapping[float, Sequence[Row]]) -> dict[str, Any]:
    """By layer: means over seeds at each width, and their slopes; ``moved`` counts steps from 1, ``size`` from 0."""
    layers = next(iter(rows.values()))[0]["size"]
    found = {}
    for layer in layers:
        entry: dict[str, Any] = {}
        for what, first in (("size", 0), ("moved", 1)):
            means = {
                width: [statistics.fmean(row[what][layer][step] for row in each) for step in range(first, STEPS + 1)]
                for width, each in rows.items()
            }
            columns = zip(*means.values(), strict=True)
            entry[what] = {str(width): values for width, values in means.items()}
            entry[f"{what}_slope"] = [slope(means, column) for column in columns]
        found[layer] = entry
    return found


def best_rates(rows: Mapping[float, Sequence[Row]], task: Task) -> dict[str, Any]:
    """By width: the scores at every learning rate and the best one; how that shifts, and what it loses in full.

    What diverges has an accuracy of 0 and an infinite loss, here None.
    """
    by_width: dict[str, Any] = {}
    for width, each in rows.items():
        losses = {rate: [_loss(row) for row in each if row["rate"] == rate] for rate in task.rates}
        accuracies = {rate: [row["accuracy"] or 0.0 for row in each if row["rate"] == rate] for rate in task.rates}
        means = [statistics.fmean(accuracies[rate]) for rate in task.rates]
        mean_losses = [statistics.fmean(losses[rate]) for rate in task.rates]
        seeds = [optimum(task.rates, list(of)) for of in zip(*losses.values(), strict=True)]
        by_width[str(width)] = {
            "accuracy": means,
            "loss": [loss if math.isfinite(loss) else None for loss in mean_losses],
            "best_by_accuracy": task.rates[int(np.argmax(means))],
            "optimum": optimum(task.rates, mean_losses),
            "optimum_by_seed": seeds,
            "at_the_edge": int(np.argmin(mean_losses)) in (0, len(task.rates) - 1),
        }
    full = by_width["1.0"]
    for entry in by_width.values():
        chosen = task.rates.index(entry["best_by_accuracy"])
        entry["regret_points"] = 100 * (max(full["accuracy"]) - full["accuracy"][chosen])
        entry["times_the_full_networks"] = entry["optimum"] / full["optimum"]
    return {"widths": by_width, "slope": slope(rows, [entry["optimum"] for entry in by_width.values()])}


def _loss(row: Row) -> float:
    return math.inf if row["loss"] is None else float(row["loss"])


def optimum(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Where a parabola through the smallest loss and its neighbours, over the logarithm of the rate, is smallest.

    The rate with the smallest loss itself at an end of the rates, and beside a training that diverged.

    >>> rates = [0.25, 0.5, 1.0, 2.0]  # (log2(rate) + 0.75) ** 2, the vertex of which is between two of the rates
    >>> round(math.log2(optimum(rates, [1.5625, 0.0625, 0.5625, 3.0625])), 6)
    -0.75
    """
    place = int(np.argmin(losses))
    near = losses[max(0, place - 1) : place + 2]
    if len(near) < 3 or not all(map(math.isfinite, near)):
        return rates[place]
    a, b, _ = np.polyfit(np.log2(rates[place - 1 : place + 2]), near, 2)
    return float(2 ** (-b / (2 * a))) if a > 0 else rates[place]


# Tables and figures.


def steepest(layers: Mapping[str, Any], what: str, step: int) -> tuple[str, float]:
    """The layer whose slope is farthest from 0 after so many steps, and that slope; layers without one are left out."""
    offset = 0 if what == "size" else 1
    found = {layer: entry[f"{what}_slope"][step - offset] for layer, entry in layers.items()}
    slopes = {layer: each for layer, each in found.items() if each is not None}
    worst = max(slopes, key=lambda layer: abs(slopes[layer]))
    return worst, slopes[worst]


def report(found: Mapping[str, Any], *, markdown: bool) -> str:
    """The two tables."""
    first = []
    for task, rules in found["coordinates"].items():
        for rule in RULES:
            of = rules[rule]
            layer, last = steepest(of, "moved", STEPS)
            moves = [steepest(of, "moved", step)[1] for step in range(1, STEPS)]
            sizes = [steepest(of, "size", step)[1] for step in (0, STEPS)]
            median = statistics.median(abs(entry["moved_slope"][-1]) for entry in of.values())
            first.append([task, LABELS[rule], *moves, last, layer, median, *sizes])
    second = []
    for task, rules in found["rates"].items():
        for rule in RULES:
            for width, entry in rules[rule]["widths"].items():
                if rule != MUP and width == "1.0":
                    continue
                mark = ", at the edge" if entry["at_the_edge"] else ""
                low, high = min(entry["optimum_by_seed"]), max(entry["optimum_by_seed"])
                second.append([
                    task, LABELS[rule] if width != "1.0" else "full network", float(width),
                    f"{entry['optimum']:.4f}{mark}", f"{low:.4f} to {high:.4f}",
                    entry["times_the_full_networks"], 100 * max(entry["accuracy"]), entry["regret_points"],
                    rules[rule]["slope"] if width != "1.0" else None,
                ])  # fmt: skip
    steps = (f"moved, {step}" for step in range(1, STEPS + 1))
    heads = (
        ("network", "learning rates", *steps, "of layer", "median layer", "size, 0", f"size, {STEPS}"),
        ("network", "learning rates", "width or depth", "best", "by seed", "times the full network's", "accuracy, %",
         "regret, points", "slope"),
    )  # fmt: skip
    return "\n\n".join(table(head, body, markdown=markdown) for head, body in zip(heads, (first, second), strict=True))


def draw_coordinates(found: Mapping[str, Any]) -> go.Figure:
    """How far each layer's outputs moved, over the width, after the last step."""
    tasks = found["coordinates"]
    figure = _grid(list(tasks))
    for row, rules in enumerate(tasks.values(), 1):
        for column, rule in enumerate(RULES, 1):
            for layer, entry in rules[rule].items():
                widths = [float(width) for width in entry["moved"]]
                values = [of[-1] for of in entry["moved"].values()]
                figure.add_scatter(x=widths, y=values, name=layer, showlegend=False, row=row, col=column)
    figure.update_yaxes(type="log", title_text=f"mean |change|, {STEPS} steps", col=1)
    figure.update_yaxes(type="log")
    figure.update_xaxes(type="log", title_text="width", row=len(tasks))
    figure.update_xaxes(type="log")
    return figure


def draw_rates(found: Mapping[str, Any], rates: Mapping[str, Sequence[float]]) -> go.Figure:
    """Validation loss over the learning rate, a line for each width."""
    tasks = found["rates"]
    figure = _grid(list(tasks))
    roles = ("kept", "best", "pruned", "failed")
    for row, (task, rules) in enumerate(tasks.items(), 1):
        for column, rule in enumerate(RULES, 1):
            for role, (width, entry) in zip(roles, rules[rule]["widths"].items(), strict=False):
                figure.add_scatter(
                    x=rates[task], y=entry["loss"], name=f"size {float(width):g}", line={"color": LIGHT[role]},
                    legendgroup=width, showlegend=row == column == 1, row=row, col=column,
                )  # fmt: skip
    figure.update_yaxes(type="log", title_text="validation loss", col=1)
    figure.update_yaxes(type="log")
    figure.update_xaxes(type="log", title_text="learning rate", row=len(tasks))
    figure.update_xaxes(type="log")
    return figure


def _grid(tasks: Sequence[str]) -> go.Figure:
    titles = [f"{task}<br>{LABELS[rule]}" for task in tasks for rule in RULES]
    figure = make_subplots(
        len(tasks), len(RULES), subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.35 / len(tasks)
    )
    figure.update_annotations(font_size=12)
    size = {"height": 80 + 210 * len(tasks), "width": 1000}
    return figure.update_layout(
        template=template(), margin={"l": 60, "b": 50, "t": 100}, legend_y=1 + 0.3 / len(tasks), **size
    )


def write_figures(found: Mapping[str, Any], rates: Mapping[str, Sequence[float]], folder: Path) -> None:
    """Both figures as HTML pages that need no network, and as SVG where kaleido is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in (("coordinates", draw_coordinates(found)), ("rates", draw_rates(found, rates))):
        figure.write_html(folder / f"mup-{name}.html", include_plotlyjs="directory")
        if importlib.util.find_spec("kaleido") is not None:
            figure.write_image(folder / f"mup-{name}.svg")


def document(found: Mapping[str, Any], rows: Sequence[Row], name: str, settings: Scale) -> dict[str, Any]:
    """The summary with where it comes from; the settings are those of the scale ``name``, or with fewer seeds."""
    plain = {name: getattr(settings, name) for name in ("dataset", "pixels", "images", "val", "batch", "widths")}
    tasks = {
        task.name: {name: getattr(task, name) for name in ("epochs", "rates", "step", "optimizer", "weight_decay")}
        for task in settings.tasks
    }
    return {
        "benchmark": "mup",
        "settings": {"scale": name, **plain, "tasks": tasks},
        "seeds": {"rates": list(range(settings.seeds)), "coordinates": list(range(settings.coordinate_seeds))},
        **provenance(load=True),
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        **found,
    }
