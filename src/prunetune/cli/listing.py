"""`prunetune list`: every name with what it needs, what it is in a sentence, and who brings it.

What prunetune itself brings is described in ``names.json``, so that no scorer and no optimizer is imported for a list.
``python -m prunetune.cli.listing > names.json`` writes it anew; a test holds it against the docstrings.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from prunetune.backends import full_name, optimizers, spaces, trial_pruners
from prunetune.data import datasets, texts
from prunetune.errors import PrunetuneError
from prunetune.ladder import ladders
from prunetune.plugins import make_scorer, normalisers, reductions, scorers
from prunetune.registry import OWN
from prunetune.transfer import transfers
from prunetune.zoo import models

if TYPE_CHECKING:
    from rich.console import Console

    from prunetune.registry import Registry

SENTENCE = re.compile(r".*?(?<!\bal)(?<!\beq)(?<!e\.g)(?<!i\.e)\.(?=\s+[A-Z`]|\s*$)", re.DOTALL)
"""Up to a full stop that ends a sentence: not those of "et al.", "eq." and the like."""


class NamedEntry(NamedTuple):
    """One name. `needs` is empty for kinds that need nothing besides themselves."""

    name: str
    needs: str
    description: str
    source: str


def registries() -> dict[str, Registry[Any]]:
    """Everything that has names, by the kind as the command line has it."""
    return {
        "scorers": scorers,
        "reductions": reductions,
        "normalisers": normalisers,
        "transfers": transfers,
        "optimizers": optimizers,
        "trial-pruners": trial_pruners,
        "spaces": spaces,
        "ladders": ladders,
        "models": models,
        "datasets": datasets,
        "texts": texts,
    }


def rows(kind: str) -> list[NamedEntry]:
    """A row for every name of a kind; where a plugin is broken, its description is the sentence that says so."""
    registry, known = registries()[kind], _known().get(kind, {})
    table = []
    for name in registry.names():
        sources = registry.sources(name)
        needs, description = known[name] if sources == [OWN] and name in known else described(kind, name)
        table.append(NamedEntry(name, needs, description, ", ".join(sources)))
    return table


def described(kind: str, name: str) -> tuple[str, str]:
    """What it needs and what it is, by what is registered; that is imported."""
    registry = registries()[kind]
    try:
        return _DESCRIBERS.get(kind, _by_docstring)(name, registry)
    except PrunetuneError as error:
        return "", str(error)


@functools.cache
def _known() -> dict[str, dict[str, tuple[str, str]]]:
    found: dict[str, dict[str, tuple[str, str]]] = json.loads(
        files("prunetune.cli").joinpath("names.json").read_text(encoding="utf-8")
    )
    return found


def own_names() -> dict[str, dict[str, tuple[str, str]]]:
    """What ``names.json`` is to hold: by kind and name, what is needed and what it is."""
    return {
        kind: {name: described(kind, name) for name in registry.names() if registry.sources(name) == [OWN]}
        for kind, registry in registries().items()
        if kind != "spaces"  # they are no code, and say what they hold
    }


def print_rows(console: Console, table: list[NamedEntry]) -> None:
    """On a terminal a table of its width; elsewhere a line a name, which is never wrapped, the name first."""
    needs = any(row.needs for row in table)
    if not console.is_terminal:
        for line in plain(table):
            console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
        return
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    grid.add_column("name", style="bold", overflow="fold", no_wrap=True)
    if needs:
        grid.add_column("needs", max_width=20)
    grid.add_column("what it is", ratio=1)
    grid.add_column("from", style="dim")
    for row in table:
        cells = [row.name, *([row.needs or "–"] if needs else []), row.description, row.source]
        grid.add_row(*map(Text, cells))
    console.print(grid)


def plain(table: list[NamedEntry]) -> list[str]:
    """A line a name: name, needs (`-` for nothing), source, description, all but the last padded."""
    columns = [[row.name, *([row.needs or "-"] if any(r.needs for r in table) else []), row.source] for row in table]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), row.description])
        for cells, row in zip(columns, table, strict=True)
    ]


def first_sentence(thing: object) -> str:
    """The first sentence of an object's docstring, in a line and without backticks.

    >>> first_sentence(first_sentence)
    "The first sentence of an object's docstring, in a line and without backticks."
    """
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    sentence = SENTENCE.match(paragraph)
    return " ".join((sentence.group() if sentence else paragraph).split()).replace("`", "")


def _by_docstring(name: str, registry: Registry[Any]) -> tuple[str, str]:
    return "", first_sentence(registry[name])


def _scorer(name: str, registry: Registry[Any]) -> tuple[str, str]:
    """What a scorer needs is known of a scorer that is made."""
    from prunetune.plugins.base import Need  # loads torch: only for scorers of others

    scorer = make_scorer(name)
    try:
        needs = ", ".join(need.value for need in Need if need in scorer.needs)
    except TypeError:
        raise registry.broken(name, f"its needs must be a set of Need, and are {scorer.needs!r}") from None
    return needs, first_sentence(registry[name])


def _optimizer(name: str, registry: Registry[Any]) -> tuple[str, str]:
    """A factory says by its attribute `needs` which distribution it needs beyond prunetune's own."""
    factory = registry[name]
    if (full := full_name(name)) != name:
        return getattr(factory, "needs", ""), f"Short for {full}."
    return getattr(factory, "needs", ""), first_sentence(factory)


def _trial_pruner(name: str, registry: Registry[Any]) -> tuple[str, str]:
    """All that stop anything need to know how a trial goes; ours that does not is `none`."""
    from prunetune.backends.pruners.none import none  # loads Optuna: only for pruners of others

    factory = registry[name]
    return "" if factory is none else "a score every epoch", first_sentence(factory)


def _space(name: str, registry: Registry[Any]) -> tuple[str, str]:
    return "", ", ".join(registry[name])


def _dataset(name: str, registry: Registry[Any]) -> tuple[str, str]:
    return "", registry[name].summary


_DESCRIBERS: Mapping[str, Callable[[str, Registry[Any]], tuple[str, str]]] = {
    "scorers": _scorer,
    "optimizers": _optimizer,
    "trial-pruners": _trial_pruner,
    "spaces": _space,
    "datasets": _dataset,
    "texts": _dataset,
}


if __name__ == "__main__":
    print(json.dumps(own_names(), indent=1))
