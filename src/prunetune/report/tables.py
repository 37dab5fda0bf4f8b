"""The page's tables: what a picture shows, for those who can't see it, and what no picture shows better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunetune._utils.checks import BETTER
from prunetune.record.schema import PruningPart
from prunetune.report.figures import NothingToShow
from prunetune.report.figures.base import LOOKS, thinned
from prunetune.report.figures.cost import MEASURES, phase_seconds
from prunetune.report.figures.rungs import ended_at
from prunetune.report.figures.search import importance_values
from prunetune.report.ladder import climbs
from prunetune.report.run import Run
from prunetune.report.trials import Trial, parameters
from prunetune.report.words import NONE, clip, duration, number, percent

MAX_ROWS = 500
MESSAGE = "message"


@dataclass(frozen=True)
class Table:
    """A caption, the heads of the columns and rows of text.

    The first ``words`` columns are words and the rest numbers, but for a last column of messages.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    marked: int | None = None
    note: str = ""

    def is_number(self, column: int) -> bool:
        """Whether the column is set flush right."""
        return column >= self.words and self.head[column] != MESSAGE


def limited(table: Table) -> Table:
    """The table with its first five hundred rows, and a note that says so."""
    if len(table.rows) <= MAX_ROWS:
        return table
    note = f"{table.note} The first {MAX_ROWS:,} of {len(table.rows):,} rows.".strip()
    return replace(table, rows=table.rows[:MAX_ROWS], note=note)


def costs(run: Run) -> Table:
    """Parameters, FLOPs and step time of the base and the proxy."""
    cost = run.result.cost
    rows, first = [], run.first.removeprefix("the ")
    for label, name, words in MEASURES:
        base = getattr(cost.base, name) if cost and cost.base else None
        proxy = getattr(cost.proxy, name) if cost and cost.proxy else None
        less = base / proxy if base and proxy else None
        share = percent(proxy / base) if base and proxy is not None else NONE
        rows.append((label, words(base), words(proxy), share, f"{less:.3g} times" if less else NONE))
    return Table(
        "What each network costs",
        ("measure", "full network", first, f"{first} / full", "cheaper by"),
        tuple(rows),
        note="FLOPs are of one forward pass on the example inputs; step times are of training steps on them.",
    )


def ladder(run: Run) -> Table:
    """The rungs: what was trained on each, how many, what it cost."""
    rows, found = [], climbs(run)
    full = found[-1].seconds / len(found[-1].scores) if found and found[-1].scores else None
    for place, each in enumerate(found, 1):
        scores = sorted((score for score in each.scores.values() if score is not None), key=run.rank_key)
        trained = len(each.scores)
        measured = each.seconds / trained / full if full and trained else None
        epochs = NONE if each.rung.epochs is None else f"{each.rung.epochs:,}"
        cells = (f"{trained:,}", epochs, f"{each.rung.price:.3g}", NONE if measured is None else f"{measured:.3g}")
        best = number(scores[0]) if scores else NONE
        rows.append((f"{place}. {clip(each.rung.network)}", *cells, duration(each.seconds), best))
    note = (
        "Planned costs are predicted by the time of a training step; measured ones are the time of the trainings on "
        "the rung, some of which were stopped early. Both are in trainings of the full network."
    )
    head = ("rung", "configurations", "epochs", "cost of one, planned", "measured", "time of all", "best score")
    return Table("The ladder", head, tuple(rows), note=note)


def went_up(run: Run) -> Table:
    """The score of every configuration on every rung that it came to, if that is more than the first."""
    rungs = climbs(run)
    up = dict.fromkeys(trial for each in reversed(rungs[1:]) for trial in each.scores)
    controls = {row.trial for each in run.result.climbs for row in each.trained if row.control}
    winner = run.result.winner.trial if run.result.winner else None
    rows = tuple(
        (f"{trial}{' (control)' if trial in controls else ''}", *(number(each.scores.get(trial)) for each in rungs))
        for trial in up
    )
    head = ("trial", *(f"rung {place}" for place in range(1, len(rungs) + 1)))
    marked = next((place for place, trial in enumerate(up) if trial == winner), None)
    return limited(Table("Scores of those that went up", head, rows, marked=marked))


def groups(run: Run) -> Table:
    """Channels before and after, by group."""
    found = run.result.pruning.groups if run.result.pruning else ()
    rows = tuple((clip(g.name), f"{g.before:,}", f"{g.after:,}", _kept(g.before, g.after)) for g in found)
    return limited(Table("Channels by group", ("group", "full network", run.first.removeprefix("the "), "kept"), rows))


def dependencies(run: Run) -> Table:
    """Layers that make and that read the channels of each group."""
    pruning = run.result.pruning
    named = [layer.name.removesuffix(".weight") for layer in (pruning.layers if pruning else ())]

    def listed(places: Sequence[int]) -> str:
        return clip(", ".join(named[place] for place in places if 0 <= place < len(named)) or NONE)

    found = [group for group in (pruning.groups if pruning else ()) if group.rows(len(named))]
    rows = tuple((clip(g.name), listed(g.made_by), listed(g.read_by)) for g in found)
    return limited(Table("Layers that share channels", ("group", "made by", "read by"), rows, words=3))


def layers(run: Run) -> Table:
    """Weight shapes before and after, by layer."""
    found = run.result.pruning.layers if run.result.pruning else ()
    rows = tuple(
        (
            clip(layer.name),
            _shape(layer.before),
            _shape(layer.after),
            f"{layer.sizes[0]:,}",
            f"{layer.sizes[1]:,}",
            _kept(*layer.sizes),
        )
        for layer in found
    )
    head = ("layer", "shape", "shape in the proxy", "weights", "weights in the proxy", "kept")
    return limited(Table("Weights by layer", head, rows, words=3))


def _kept(before: int, after: int) -> str:
    return percent(after / before) if before else NONE


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def frozen(run: Run) -> Table:
    """What pruning left alone, and why."""
    found = run.result.pruning.frozen if run.result.pruning else ()
    if any(item.channels is not None for item in found):
        rows = tuple((clip(item.node), clip(item.reason), number(item.channels)) for item in found)
        return limited(Table("Frozen nodes", ("node", "why", "channels that stay"), rows, words=2))
    rows_without = tuple((clip(item.node), clip(item.reason)) for item in found)
    return limited(Table("Frozen nodes", ("node", "why"), rows_without, words=2))


def trials(run: Run) -> Table:
    """Every trial of the search, best first where there are too many to list."""
    names = list(parameters(run.trials))
    listed = list(run.trials)
    if len(listed) > MAX_ROWS:
        listed.sort(key=lambda trial: run.rank_key(trial.score))
    winner = run.chosen.trial if run.chosen else None
    rows: list[tuple[str, ...]] = []
    marked = None
    messages = any(trial.message for trial in listed)
    for trial in listed:
        if trial.number == winner and len(rows) < MAX_ROWS:
            marked = len(rows)
        last = trial.curve[-1][0] if trial.curve else None
        row = [f"{trial.number}", outcome(trial.outcome), number(trial.score), number(last), duration(trial.seconds)]
        row += [number(trial.params.get(name)) for name in names]
        rows.append((*row, clip(trial.message)) if messages else tuple(row))
    head = ("trial", "outcome", "score", "last epoch", "time", *map(clip, names))
    note = "The score of a trial that was stopped early is the last that it reported."
    return limited(
        Table(
            f"Trials of the search on {run.first}",
            (*head, MESSAGE) if messages else head,
            tuple(rows),
            words=2,
            marked=marked,
            note=note,
        )
    )


def confirmation(run: Run) -> Table:
    """Every training of the full network, with the score that it came with; the winner is marked."""
    found = run.result.confirmation or ()
    won = next((i for i, row in enumerate(found) if run.won(row)), None)
    names = list(dict.fromkeys(name for row in found for name in row.params))
    messages = any(row.message for row in found)
    rows = tuple(
        (
            f"{row.trial}{' (winner)' if i == won else ''}",
            outcome(row.outcome or ""),
            number(row.proxy_score),
            number(row.base_score),
            duration(row.seconds),
            *(number(row.params.get(name)) for name in names),
            *((clip(row.message),) if messages else ()),
        )
        for i, row in enumerate(found)
    )
    head = ("trial", "outcome", f"score on {run.below}", "score on the full network", "time", *map(clip, names))
    head += (MESSAGE,) if messages else ()
    return limited(Table("Trained on the full network", head, rows, words=2, marked=won))


def curves(caption: str, found: Sequence[Trial]) -> Table:
    """Learning curves, an epoch a column, at most fifty of them."""
    curve_of = {trial.number: dict(trial.curve) for trial in found if trial.curve}
    epochs = sorted({step for curve in curve_of.values() for step in curve})
    shown = thinned(epochs, 50)
    rows = tuple((f"{name}", *(number(curve.get(step)) for step in shown)) for name, curve in curve_of.items())
    return limited(Table(caption, ("trial", *map(str, shown)), rows))


def rungs(run: Run) -> Table:
    """How many trials ended after each epoch, an outcome a column."""
    ended = ended_at(run)
    epochs = sorted({epoch for counts in ended.values() for epoch in counts})
    rows = tuple((str(epoch), *(str(counts[epoch]) for counts in ended.values())) for epoch in epochs)
    return limited(Table("Where trials ended", ("epoch", *map(outcome, ended)), rows))


def outcome(name: str) -> str:
    """An outcome in the report's words."""
    return LOOKS[name].label if name in LOOKS else clip(name) or NONE


def importance(run: Run) -> Table:
    """Importances; no rows where there are none."""
    try:
        values = importance_values(run)
    except NothingToShow:
        values = {}
    rows = tuple((clip(name), percent(share)) for name, share in values.items())
    return Table("Importances", ("hyperparameter", "share"), rows)


def times(run: Run) -> Table:
    """Seconds by phase, the total and the estimate."""
    time = run.result.time
    rows = [(label, duration(seconds)) for label, seconds, _ in phase_seconds(run)]
    if time and time.total is not None:
        rows.append(("total", duration(time.total)))
    if time and time.search_on_base_estimate is not None:
        rows.append((f"{run.compared_with} (estimate)", duration(time.search_on_base_estimate)))
    return Table("Time by phase", ("phase", "time"), tuple(rows))


def settings(run: Run) -> Table:
    """What the run was asked to do."""
    result = run.result
    pruning, asked = result.pruning, result.ladder.asked if result.ladder else None
    pairs: list[tuple[str, Any]] = [
        ("task", clip(run.task) or None),
        ("seed", result.seed),
        ("score", BETTER[result.direction]),
        ("optimizer", result.optimizer),
        ("trial pruner", result.trial_pruner),
        ("ladder", (asked.ladder if isinstance(asked.ladder, str) else "by hand") if asked else None),
        ("budget, in full trainings", asked.trainings if asked else None),
        ("budget, in seconds", asked.seconds if asked else None),
        ("trials on rung 1", result.n_trials),
        ("epochs of a full training", result.epochs),
        ("score that is good enough", result.target),
        ("patience, in trials", result.patience),
    ]
    if pruning:
        pairs += [
            ("scorer", pruning.scorer),
            ("percentile", pruning.percentile),
            ("floor", pruning.floor),
            ("ratio", pruning.ratio),
            ("share of FLOPs", pruning.flops),
            ("share of parameters", pruning.params),
            ("speed-up", pruning.speedup),
            ("blocks may be bypassed", "yes" if pruning.depth else None),
            ("protected layers", ", ".join(pruning.protect) or None),
            ("multiple of", pruning.multiple_of if pruning.multiple_of != 1 else None),
            ("heads", pruning.heads),
            ("weights of a trial", pruning.weights),
            ("transfer", pruning.transfer),
            ("optimizers that follow it", _followers(pruning)),
            *(
                (f"learning rates on rung 1, {kind}", f"times {low:.3g} to {high:.3g}, by layer")
                for kind, (low, high) in (pruning.factors or {}).items()
            ),
        ]
    if result.search:
        pairs += [("what that means", note) for note in result.search.notes]
    rows = tuple((name, number(value)) for name, value in pairs if value is not None)
    return Table("Settings", ("setting", "value"), rows, words=2)


def _followers(pruning: PruningPart) -> str | None:
    if pruning.transfer in (None, "identity"):
        return None
    return "those with report.param_groups" if pruning.optimizers == "asked" else f"all, as {pruning.optimizers}"


def space(run: Run) -> Table:
    """The search space as the run recorded it."""
    rows = tuple((clip(name), _range(value)) for name, value in (run.result.space or {}).items())
    return limited(Table("Search space", ("hyperparameter", "range"), rows, words=2))


def surroundings(run: Run) -> Table:
    """Versions and machine."""
    known = {**(run.result.versions or {}), **(run.result.machine or {})}
    rows = tuple((clip(str(name)), number(value)) for name, value in known.items() if value is not None)
    return limited(Table("Versions and machine", ("what", "value"), rows, words=2))


def _range(value: Any) -> str:
    """A dimension in words, where it looks like one."""
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return clip(", ".join(map(number, value["choices"])))
    if isinstance(value, dict) and {"low", "high"} <= value.keys():
        whole = "whole numbers, " if value.get("type") == "int" else ""
        log = ", on a logarithmic scale" if value.get("log") else ""
        return clip(f"{whole}{number(value['low'])} to {number(value['high'])}{log}")
    return clip(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
