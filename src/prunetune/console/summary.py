"""The end of a run on the terminal: tables made from ``result.json`` and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunetune._utils.checks import BETTER
from prunetune.console.progress import duration
from prunetune.events import counts_in_words, outcome_in_words
from prunetune.record.provenance import read_params
from prunetune.record.sentences import did_not_pay, energy_sentence, first_network
from prunetune.record.stored import read_record

HYPERPARAMETERS: Final = "hyperparameters"


def print_summary(console: Console, run_dir: Path) -> None:
    """Print what a finished run in ``run_dir`` found, what it cost and what it saved."""
    record = read_record(run_dir / "result.json")
    assert record is not None
    console.print(summary(record))
    console.print(f"\nReport: {run_dir / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def summary(record: Mapping[str, Any]) -> Group:
    """The tables of a finished run, from the contents of its ``result.json``."""
    parts: list[RenderableType] = ["", ladder_table(record), ""]
    if record["confirmation"]:
        parts += [confirmation_table(record), ""]
    parts.append(outcome_table(record))
    if told := did_not_pay(record):
        parts += ["", Text(told)]
    return Group(*parts)


def print_check(console: Console, run_dir: Path) -> None:
    """Print what a check in ``run_dir`` measured, and its verdict."""
    record = json.loads((run_dir / "check.json").read_text(encoding="utf-8"))
    trained = Text(f"Trained for {record['check_epochs']} of {record['epochs']} epochs.")
    if record["cost_ratio"] is not None:
        trained.append(f" The full network's took {number(record['cost_ratio'])} times as long as the proxy's.")
    trained.append("".join(f"\n{note}" for note in record["notes"]))
    console.print(Group("", check_table(record), "", correlation_table(record), "", trained, ""))
    console.print(record["verdict"]["sentence"], markup=False, highlight=False, soft_wrap=True)


def print_comparison(console: Console, run_dir: Path) -> None:
    """Print what a comparison in ``run_dir`` came to."""
    record = json.loads((run_dir / "compare.json").read_text(encoding="utf-8"))
    console.print(Group("", comparison_table(record), ""))
    for note in record["notes"]:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Report: {run_dir / 'compare.html'}", markup=False, highlight=False, soft_wrap=True)


def comparison_table(record: Mapping[str, Any]) -> Table:
    """Every way with its cost, rank correlation and regret; means over seeds, the intervals are in the report."""
    title = f"Costs: 1 is one whole training of the full network ({duration(record['seconds_of_a_full_training'])})"
    columns = (
        "cost of\na trial",
        "of a\nsearch",
        "Spearman",
        "regret",
        "of a search,\nconfirmed",
        "regret,\nconfirmed",
    )
    table = _table(title, *columns)
    for row in record["rows"]:
        after = row["regret_confirmed"]
        table.add_row(
            row["name"] if row["optimizer"] == "random" else f"{row['name']}, {row['optimizer']}",
            number(round(row["cost"], 3)),
            f"{row['search_cost']:.1f}",
            "" if row["spearman"]["mean"] is None else f"{row['spearman']['mean']:.2f}",
            number(row["regret"]["mean"]),
            "" if row["confirmed_cost"] is None else f"{row['confirmed_cost']:.1f}",
            "" if after is None else number(after["mean"]),
        )
    table.add_row("a random pick", "0", "0", "", number(record["random_pick_regret"]), "", "")
    return table


def check_table(record: Mapping[str, Any]) -> Table:
    """The configurations with their scores on the proxy, on the full network and there again."""
    table = _table("The same configurations", "proxy", "full", "full again", words=HYPERPARAMETERS)
    for place, entry in enumerate(record["configurations"], 1):
        scores = (_checked(entry[network]) for network in ("proxy", "base", "again"))
        table.add_row(str(place), *scores, _params(record, entry))
    return table


def _checked(trained: Mapping[str, Any] | None) -> str:
    if trained is None:
        return "failed"
    return outcome_in_words(trained["outcome"]) if trained["score"] is None else number(trained["score"])


def correlation_table(record: Mapping[str, Any]) -> Table:
    """Both rank correlations of a check, with their intervals."""
    table = _table("Rank correlation (Spearman)", "", "95 % interval", "configurations")
    for title, found in (("proxy, full network", record["correlation"]), ("full network, again", record["ceiling"])):
        if found is None:
            table.add_row(title, "none")
        else:
            interval = f"{found['low']:.2f} to {found['high']:.2f}"
            table.add_row(title, f"{found['value']:.2f}", interval, str(found["n"]))
    return table


def print_plan(console: Console, plan: Mapping[str, Any]) -> None:
    """Print the rungs of a plan, what they cost, and why it has them; ``plan`` is a record of one."""
    table = _table("The ladder", "configurations", "cost of one", "of all")
    for place, (network, entrants, price) in enumerate(
        zip(plan["networks"], plan["entrants"], plan["prices"], strict=True), 1
    ):
        table.add_row(f"{place}. {network}", str(entrants), f"{price:.3g}", f"{entrants * price:.3g}")
    console.print(Group("", table, ""))
    for reason in plan["reasons"]:
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    console.print(f"In all {plan['total']:.3g} full trainings of the full network.", markup=False, highlight=False)


def ladder_table(record: Mapping[str, Any]) -> Table:
    """The rungs: what was trained on each, how many, and what it cost in full trainings and time."""
    table = _table("The ladder", "configurations", "cost of one", "time")
    between = {each["study"]: each for each in record.get("climbs", ())}
    for place, rung in enumerate(record["ladder"]["rungs"], 1):
        if place == 1:
            seconds, many = record["search"]["seconds"], sum(record["search"]["trials"].values())
        elif rung["study"] in between:
            seconds, many = between[rung["study"]]["seconds"], len(between[rung["study"]]["trained"])
        else:
            rows = record["confirmation"]
            seconds, many = sum(each["seconds"] or 0.0 for each in rows), len(rows)
        table.add_row(f"{place}. {rung['network']}", str(many), f"{rung['price']:.3g}", duration(seconds))
    return table


def confirmation_table(record: Mapping[str, Any]) -> Table:
    """The trials that were trained on the full network, with both scores; the winner is marked."""
    table = _table("Trained on the full network", "rung below", "full", "time", words=HYPERPARAMETERS)
    for entry in record["confirmation"]:
        won = entry["base_score"] is not None and entry["trial"] == record["winner"]["trial"]
        table.add_row(
            f"trial {entry['trial']}{', winner' if won else ''}",
            number(entry["proxy_score"]),
            base_score(entry),
            "" if entry["seconds"] is None else duration(entry["seconds"]),
            _params(record, entry),
            style="bold" if won else "",
        )
    return table


def base_score(entry: Mapping[str, Any]) -> str:
    """The score of a training of the full network, or what became of it."""
    if entry["outcome"] == "pruned":
        return f"{outcome_in_words('pruned')}, epoch {entry['epochs']}"
    return entry["outcome"] if entry["base_score"] is None else number(entry["base_score"])


def outcome_table(record: Mapping[str, Any]) -> Table:
    """Where the time went, and what came out."""
    table = Table.grid(padding=(0, 2))
    counts = counts_in_words(record["search"]["trials"])
    time, ladder = record["time"], record["ladder"]
    if ladder.get("total"):
        _add_cost(table, ladder, time["search_on_base_estimate"])
    rungs = len(ladder["rungs"])
    table.add_row("search", f"{duration(time['search'])} on {first_network(rungs)}: {counts}")
    if time.get("climb"):
        table.add_row("climbing", f"{duration(time['climb'])} on the rungs between")
    if record["confirmation"]:
        table.add_row("last rung", f"{duration(time['confirm'])} on the full network")
    table.add_row("in all", duration(time["total"]))
    if "energy" in record:
        table.add_row("energy", energy_sentence(record["energy"]))
    winner = record["winner"]
    title = "best hyperparameters"
    for name, value in read_params(record, winner["params"]).items():
        table.add_row(title, f"{name} {number(value)}")
        title = ""
    if unread := record["search"].get("not_read"):
        table.add_row("not read by train", f"{', '.join(unread)}: the search says nothing of it")
    table.add_row("validation score", f"{number(winner['score'])}, {BETTER[record['direction']]}")
    for name, value in record["test"].items():
        table.add_row(f"test {name}", number(value))
    return table


def _add_cost(table: Table, ladder: Mapping[str, Any], estimate: float) -> None:
    """What the search cost, beside the customary one."""
    took = duration(estimate * ladder["total"] / ladder["customary"])
    table.add_row("cost", f"{ladder['total']:.3g} full trainings ({took})")
    customary = f"about {ladder['customary']:.0f} full trainings ({duration(estimate)}), an estimate"
    table.add_row("customary search", customary)


def number(value: object) -> str:
    """A hyperparameter or a score with four significant digits; None is empty.

    >>> number(0.98765432), number(128), number(1.234567e-05)
    ('0.9877', '128', '1.235e-05')
    """
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _params(record: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The hyperparameters that ``train`` read, in a line: a column for each would not fit a terminal."""
    return ", ".join(f"{name} {number(value)}" for name, value in read_params(record, entry["params"]).items())


def _table(title: str, *columns: str, words: str | None = None) -> Table:
    """A table whose first column, and the last if that holds ``words``, wrap so that no number is ever cut off."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    if words is not None:
        table.add_column(words, overflow="fold")
    return table
