"""Tables from the results of `benchmarks.engine`; nothing here measures anything."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks.common.lines import Row
from benchmarks.common.tables import table

OURS = "prunetune"
SLOW = 2.0
"""Seconds of CPU that no model should take."""
LARGE = 100_000_000
"""Parameters over which one may."""


def report(rows: Sequence[Row], versions: Mapping[str, str], *, markdown: bool) -> str:
    """All tables that the rows have something for, as one text."""
    parts = [", ".join(f"{name} {version}" for name, version in versions.items())]
    for title, make in TABLES.items():
        header, body = make(rows)
        if body:
            parts.append(f"{'## ' if markdown else ''}{title}\n\n{table(header, body, markdown=markdown)}")
    return "\n\n".join(parts)


Table = tuple[Sequence[str], list[Sequence[object]]]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _by(rows: Iterable[Row], *keys: str) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    """Rows with equal values of `keys`, in the order of their first row."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    yield from groups.items()


def _share(rows: Sequence[Row]) -> float | None:
    layers = sum(row["layers"] for row in rows)
    return 100 * sum(row["layers_shrunk"] for row in rows) / layers if layers else None


def coverage(rows: Sequence[Row]) -> Table:
    """How many models of each family each engine can prune, and what that takes."""
    shrunk = ["layers shrunk, %", "least in a model, %"]
    header = ["family", "engine", "ok", "total", *shrunk, "median CPU s", "total CPU s", "median peak MiB"]
    body: list[Sequence[object]] = []
    for (family, engine), group in _by(rows, "family", "engine"):
        good = [row for row in group if row["ok"]]
        seconds = [row["cpu_seconds"] for row in good]
        cost = [median(seconds), sum(seconds), median(row["peak_mib"] for row in good)] if good else [None] * 3
        least = min((share for row in good if (share := _share([row])) is not None), default=None)
        body.append([family, engine, len(good), len(group), _share(good), least, *cost])
    return header, body


def verdict(row: Row) -> str:
    """What became of a network that the oracle judges."""
    if row["ok"]:
        return "exact"
    return "silently wrong" if row["stage"] == "comparing with the oracle" else "refused or failed"


def hazards(rows: Sequence[Row]) -> Table:
    """Cuts that the oracle judged."""
    kinds = ("exact", "silently wrong", "refused or failed")
    body: list[Sequence[object]] = []
    for (engine,), group in _by([row for row in rows if row["family"] == "hazards"], "engine"):
        count = Counter(verdict(row) for row in group)
        body.append([engine, *(count[kind] for kind in kinds), len(group)])
    return ["engine", *kinds, "total"], body


def _pairs(rows: Sequence[Row], rival: str) -> dict[tuple[str, str], tuple[float, float]]:
    """(family, model) → CPU seconds of the rival and of ours, where both did it."""
    seconds = {(r["family"], r["model"], r["engine"]): r["cpu_seconds"] for r in rows if r["ok"]}
    both = [key[:2] for key in seconds if key[2] == rival and (*key[:2], OURS) in seconds]
    return {key: (seconds[*key, rival], seconds[*key, OURS]) for key in both}


def _rivals(rows: Sequence[Row]) -> list[str]:
    return [name for name in _unique(row["engine"] for row in rows) if not name.startswith(OURS)]


def ratios(rows: Sequence[Row]) -> Table:
    """How many times as long as ours each rival takes, on the models that both did."""
    body: list[Sequence[object]] = []
    for rival in _rivals(rows):
        pairs = _pairs(rows, rival)
        families = _unique(family for family, _ in pairs)
        # The hazards are networks of a few layers: milliseconds for every engine. They are shown, not summed up.
        groups = {**{name: {name} for name in families}, "all but hazards": set(families) - {"hazards"}}
        for name, members in groups.items():
            ratio = {model: r / o for (family, model), (r, o) in pairs.items() if family in members}
            if ratio:
                least = min(ratio, key=lambda model: ratio[model])
                body.append([rival, name, len(ratio), ratio[least], least, median(ratio.values())])
    return ["engine", "family", "models", "least", "of", "median"], body


def slowest(rows: Sequence[Row]) -> Table:
    """The five models that take each rival longest, of those that ours did too."""
    body: list[Sequence[object]] = []
    for rival in _rivals(rows):
        pairs = _pairs(rows, rival)
        for (family, model), (theirs, ours) in sorted(pairs.items(), key=lambda item: -item[1][0])[:5]:
            body.append([rival, family, model, theirs, ours, theirs / ours])
    return ["engine", "family", "model", "CPU s", "ours", "ratio"], body


def slow(rows: Sequence[Row]) -> Table:
    """Models that take ours long."""
    found = [r for r in rows if r["engine"].startswith(OURS) and r.get("cpu_seconds", 0.0) > SLOW]
    header = ["family", "model", "engine", "CPU s", "parameters", f"over {LARGE:,}"]
    return header, [
        [r["family"], r["model"], r["engine"], r["cpu_seconds"], r["parameters_before"], _yes(r)]
        for r in sorted(found, key=lambda r: -r["cpu_seconds"])
    ]


def _yes(row: Row) -> str:
    return "yes" if row["parameters_before"] > LARGE else "no"


def least_shrunk(rows: Sequence[Row]) -> Table:
    """For each engine the ten models with the smallest share of layers that shrank, and what froze most."""
    body: list[Sequence[object]] = []
    for (engine,), group in _by([r for r in rows if r["ok"] and r["layers"]], "engine"):
        lowest = sorted((r for r in group if r["layers_shrunk"] < r["layers"]), key=lambda r: _share([r]) or 0.0)
        for r in lowest[:10]:
            frozen = sorted((f for f in r["frozen"] if f[0] != "output"), key=lambda f: -f[2])
            why = "; ".join(f"{node}: {reason} ({channels})" for node, reason, channels in frozen[:2])
            body.append([engine, r["family"], r["model"], r["layers_shrunk"], r["layers"], _share([r]), why])
    return ["engine", "family", "model", "shrunk", "layers", "%", "frozen"], body


def frozen(rows: Sequence[Row]) -> Table:
    """What freezes channels in our engine, the model's outputs apart: the most channels first."""
    models: Counter[tuple[str, str]] = Counter()
    channels: Counter[tuple[str, str]] = Counter()
    for row in rows:
        found = [
            (node.partition(" in ")[0], reason, n) for node, reason, n in row.get("frozen", ()) if node != "output"
        ]
        models.update({(operation, reason) for operation, reason, _ in found})
        for operation, reason, n in found:
            channels[operation, reason] += n
    body: list[Sequence[object]] = [[*key, models[key], n] for key, n in channels.most_common(30)]
    return ["operation", "reason", "models", "channels"], body


def failures(rows: Sequence[Row]) -> Table:
    """Every failure."""
    order = sorted((r for r in rows if not r["ok"]), key=lambda r: r["engine"] != OURS)
    return ["engine", "family", "model", "while", "reason"], [
        [r["engine"], r["family"], r["model"], r["stage"], textwrap.shorten(r["reason"], 150)] for r in order
    ]


def depth(rows: Sequence[Row]) -> Table:
    """Seconds against the number of layers; in the last line of a series, the exponent of its growth."""
    deep = [row for row in rows if "depth" in row]
    engines = _unique(row["engine"] for row in deep)
    body: list[Sequence[object]] = []
    for (series,), group in _by(deep, "series"):
        points: dict[str, list[tuple[float, float]]] = {engine: [] for engine in engines}
        for layers in sorted({row["depth"] for row in group}):
            cells: list[object] = []
            for engine in engines:
                row = next((r for r in group if r["depth"] == layers and r["engine"] == engine), None)
                cells.append(row and (row["cpu_seconds"] if row["ok"] else row["reason"][:40]))
                if row and row["ok"]:
                    points[engine].append((layers, row["cpu_seconds"]))
            body.append([series, layers, *cells])
        exponents = [exponent(points[engine]) for engine in engines]
        if any(e is not None for e in exponents):
            body.append([series, "exponent", *exponents])
    return ["series", "layers", *engines], body


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log seconds over log layers by least squares; None for fewer than three points.

    >>> round(exponent([(10, 3.0), (20, 6.0), (40, 12.0)]), 9)
    1.0
    """
    if len(points) < 3:
        return None
    xs, ys = ([math.log(p[i]) for p in points] for i in range(2))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


TABLES: dict[str, Callable[[Sequence[Row]], Table]] = {
    "Models pruned to half width (seconds and memory: of those that were)": coverage,
    "Networks with one structural hazard, judged by the oracle": hazards,
    "CPU seconds of the others divided by ours, on the models that both pruned": ratios,
    "The five models that take the others longest": slowest,
    f"Models over {SLOW:g} s of CPU": slow,
    "CPU seconds by depth": depth,
    "Models with the smallest share of layers that shrank": least_shrunk,
    "What prunetune froze": frozen,
    "Failures": failures,
}
