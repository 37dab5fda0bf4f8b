"""Tables from the results of `benchmarks.optimizers`; nothing here measures anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.bootstrap import FEW, interval
from benchmarks.common.tables import table
from benchmarks.optimizers.runs import Row

Rows: TypeAlias = Sequence[Row]
Made: TypeAlias = tuple[Sequence[str], list[Sequence[object]]]
Series: TypeAlias = Mapping[tuple[str, int], float]
"""(table, seed) → regret."""

BEST: Final = 20
"""Combinations in the table against the customary one."""
BASELINE: Final = "optuna:random"
CUSTOMARY: Final = ("optuna:tpe", "hyperband")


def report(rows: Rows, *, markdown: bool) -> str:
    """All tables that the rows have something for, as one text."""
    parts = []
    for title, make in TABLES.items():
        header, body = make(rows)
        if body:
            parts.append(f"{'## ' if markdown else ''}{title}\n\n{table(header, body, markdown=markdown)}")
    return "\n\n".join(parts)


def series(rows: Rows, kind: str, mark: str, **chosen: str) -> Series:
    """The regrets after that many trials or epochs (`kind`) of the rows with these values."""
    return {
        (row["table"], row["seed"]): row[kind][mark]
        for row in rows
        if kind in row and all(row[name] == value for name, value in chosen.items())
    }


def by_seed(values: Series) -> dict[int, float]:
    """For each seed that all tables have, the mean over the tables."""
    tables = {name for name, _ in values}
    seeds = {seed for _, seed in values if all((name, seed) in values for name in tables)}
    return {seed: float(np.mean([values[name, seed] for name in tables])) for seed in sorted(seeds)}


def everywhere(values: Series, tables: Sequence[str]) -> Series:
    """The values, unless one of the tables has none: nothing then, for tables differ more than optimizers do."""
    return values if {name for name, _ in values} == set(tables) else {}


def difference(ours: Series, others: Series) -> str:
    """The mean of ours minus theirs, seed by seed, with its interval; "-" if there is no seed in common.

    Of a few seeds there is no interval to speak of, and their number stands in its place.
    """
    both = list(by_seed({key: ours[key] - others[key] for key in ours if key in others}).values())
    if not both:
        return "-"
    ends = interval(_means, np.array(both))
    if ends is None:
        return f"{np.mean(both):+.2f} ({len(both)} seeds)" if len(both) > 1 else f"{both[0]:+.2f} (1 seed)"
    return f"{np.mean(both):+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.mean(axis=-1)


def mean(values: Series) -> float | None:
    """Over all seeds and tables."""
    each = list(by_seed(values).values())
    return float(np.mean(each)) if each else None


def _unique(rows: Iterable[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _marks(rows: Rows, kind: str) -> list[str]:
    return sorted({mark for row in rows for mark in row.get(kind, ())}, key=int)


def full_trials(rows: Rows) -> Made:
    """Every optimizer without a trial pruner, against random."""
    rows = [row for row in rows if row["part"] == "search" and row["trial_pruner"] == "none"]
    tables, marks = _unique(rows, "table"), _marks(rows, "after_trials")
    header = ["optimizer", *(f"{name} {mark}" for name in tables for mark in marks), "seeds"]
    header += [f"minus random, {name} {marks[-1]}" for name in tables]
    body: list[Sequence[object]] = []
    for optimizer in _ranked(rows, "after_trials"):
        found = [
            [series(rows, "after_trials", mark, optimizer=optimizer, table=name) for mark in marks] for name in tables
        ]
        random = [series(rows, "after_trials", marks[-1], optimizer=BASELINE, table=name) for name in tables]
        against = [difference(each[-1], other) for each, other in zip(found, random, strict=True)]
        means = [mean(each) for parts in found for each in parts]
        body.append([optimizer, *means, str(len(by_seed(found[0][-1]))), *against])
    return header, body


def _ranked(rows: Rows, kind: str) -> list[str]:
    """Optimizers, the best at the last mark first."""
    if not rows:
        return []
    last = _marks(rows, kind)[-1]
    return sorted(_unique(rows, "optimizer"), key=lambda name: mean(series(rows, kind, last, optimizer=name)) or 0.0)


def combinations(rows: Rows) -> Made:
    """Every optimizer beside every trial pruner, all tables together, after equal epochs."""
    rows = [row for row in rows if row["part"] == "search"]
    marks, pruners, tables = _marks(rows, "after_epochs"), _unique(rows, "trial_pruner"), _unique(rows, "table")
    columns = [(mark, pruner) for mark in reversed(marks) for pruner in pruners]
    header = ["optimizer", *(f"{pruner}, {mark}" for mark, pruner in columns), "least seeds"]
    body: list[Sequence[object]] = []
    for optimizer in _unique(rows, "optimizer"):
        found = [
            everywhere(series(rows, "after_epochs", mark, optimizer=optimizer, trial_pruner=pruner), tables)
            for mark, pruner in columns
        ]
        seeds = min((len(by_seed(each)) for each in found if each), default=0)
        body.append([optimizer, *(mean(each) for each in found), str(seeds)])
    return header, sorted(body, key=lambda cells: min((c for c in cells[1:-1] if isinstance(c, float)), default=99.0))


def against_customary(rows: Rows) -> Made:
    """The combinations that are best at the larger budget, minus TPE with Hyperband; those of few seeds last."""
    rows = [row for row in rows if row["part"] == "search"]
    marks, tables = _marks(rows, "after_epochs"), _unique(rows, "table")
    pairs = list(dict.fromkeys((row["optimizer"], row["trial_pruner"]) for row in rows))
    header = ["optimizer", "trial pruner", "regret"]
    header += [f"minus tpe + hyperband, {name}, {mark}" for mark in reversed(marks) for name in ["both", *tables]]
    header += ["seeds", "trials", "complete"]
    body: list[Sequence[object]] = []
    for pair in pairs:
        chosen, usual = (dict(zip(("optimizer", "trial_pruner"), each, strict=True)) for each in (pair, CUSTOMARY))
        of = [row for row in rows if (row["optimizer"], row["trial_pruner"]) == pair]
        cells = []
        for mark in reversed(marks):
            for where in [{}, *({"table": name} for name in tables)]:
                ours, theirs = (series(rows, "after_epochs", mark, **each, **where) for each in (chosen, usual))
                cells.append(difference(ours, theirs))
        found = everywhere(series(rows, "after_epochs", marks[-1], **chosen), tables)
        if not found:
            continue
        counts = [float(np.mean([row[name] for row in of])) for name in ("trials", "complete")]
        body.append([*pair, mean(found), *cells, str(len(by_seed(found))), *counts])
    ranked = sorted(body, key=lambda cells: (int(str(cells[-3])) < FEW, float(str(cells[2]))))
    return header, ranked[:BEST]


def natives(rows: Rows) -> Made:
    """The adapters of Nevergrad and scikit-optimize, minus the same optimizers driven natively."""
    marks = _marks(rows, "after_trials")
    header = ["optimizer", "adapter", "natively", *(f"difference after {mark}" for mark in marks)]
    header += [
        f"{what}, {mark}" for mark in marks[-1:] for what in ("without its first points", "minus natively, integers")
    ]
    body: list[Sequence[object]] = []
    for optimizer in _unique((row for row in rows if row["part"] == "native"), "optimizer"):

        def of(part: str, mark: str, name: str = optimizer) -> Series:
            return series(rows, "after_trials", mark, part=part, optimizer=name, trial_pruner="none")

        adapter, native = of("search", marks[-1]), of("native", marks[-1])
        differences = [difference(of("search", mark), of("native", mark)) for mark in marks]
        bare = difference(of("no-startup", marks[-1]), native)
        whole = difference(adapter, of("native-integers", marks[-1]))
        body.append([optimizer, mean(adapter), mean(native), *differences, bare, whole])
    return header, body


def workers(rows: Rows) -> Made:
    """Four trials at once minus one after the other, without a trial pruner."""
    marks = _marks(rows, "after_trials")
    header = ["optimizer", "one worker", "four", *(f"difference after {mark}" for mark in marks)]
    body: list[Sequence[object]] = []
    for optimizer in _unique((row for row in rows if row["part"] == "workers"), "optimizer"):
        four, one = (
            [series(rows, "after_trials", mark, part=part, optimizer=optimizer, trial_pruner="none") for mark in marks]
            for part in ("workers", "search")
        )
        differences = [difference(*pair) for pair in zip(four, one, strict=True)]
        body.append([optimizer, mean(one[-1]), mean(four[-1]), *differences])
    return header, body


def overheads(rows: Rows) -> Made:
    """Milliseconds of asking and telling."""
    rows = [row for row in rows if row["part"] == "overhead"]
    marks = _marks(rows, "ms")
    header = ["optimizer", *(f"trial {mark}" for mark in marks), *(f"first of a process, {mark}" for mark in marks)]
    body: list[Sequence[object]] = [
        [row["optimizer"], *(float(row[kind][mark]) for kind in ("ms", "first_ms") for mark in marks)]
        for row in sorted(rows, key=lambda row: row["ms"][marks[-1]])
    ]
    return header, body


TABLES: Final[dict[str, Callable[[Rows], Made]]] = {
    "Full trials: regret, the table's best accuracy minus the best found, in points": full_trials,
    "Equal epochs: regret, both tables together": combinations,
    "Equal epochs: the best combinations, minus TPE with Hyperband": against_customary,
    "The adapters, minus the same optimizer driven natively": natives,
    "Four workers, minus one": workers,
    "Milliseconds of the processor for a trial": overheads,
}
