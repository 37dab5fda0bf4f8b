"""Pydantic's errors as sentences: the key, what was given, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from prunetune._utils.options import Options, bounds_in_words

KINDS: Final = {
    "bool": "true or false",
    "dict": "a table",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "model": "a table",
    "string": "text in quotes",
    "too": "a table or list with at least one entry",
    "tuple": "a list",
}
FREE: Final = {"space", "proxies"}
"""Tables of tables, whose names are free."""
GONE: Final = {
    "fidelity": "write the shares into a rung, [[ladder.rung]] epochs = 0.34, or give ladder.budget alone",
    "search.race": "drop it: one configuration is trained in full, so there is no race",
    "search.refine": "drop it, and let more go up the ladder: a larger ladder.budget",
    "search.rungs": "drop it: every rung of a ladder finishes its schedule",
}
"""Keys that a configuration had, and what does that now."""
Schema: TypeAlias = type[BaseModel] | type[Options]


def first_sentence(error: ValidationError, schema: type[BaseModel]) -> str:
    """What is wrong first: unknown keys before wrong values, since a wrong value may be a consequence."""
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in problem["loc"] if not str(part).startswith("<")]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return _unknown_key(path, schema)
    if problem["type"] == "missing":
        return f"{key} is missing" + ("" if len(path) > 1 else f": the table [{key}] must be given")
    if problem["type"] == "value_error":
        return _of_table(key, str(problem["ctx"]["error"]), schema_at(schema, path))
    given = problem["input"]
    shown = "a table" if isinstance(given, dict) and given else repr(given)
    if path[-1].isdigit():  # a place in a list
        path.pop()
    table = schema_at(schema, path[:-1])
    return f"{'.'.join(path)} is {shown}, but it must be {allowed(problem, table, path[-1])}"


def _of_table(key: str, message: str, table: Schema | None) -> str:
    """What was said of a value, with the whole key in front: options name the field, which is a key of theirs."""
    if table is not None and issubclass(table, Options):
        return f"{key}{'.' if re.split('[^a-z_]', message)[0] in keys(table) else ': '}{message}"
    return message if message.startswith(f"{key.partition('.')[0]}.") else f"{key} {message}"


def keys(table: Schema) -> dict[str, Any]:
    """The keys of a table, with the annotations of their values."""
    if issubclass(table, BaseModel):
        return {name: field.annotation for name, field in table.model_fields.items()}
    return {field.name: field.type for field in fields(table)}


def allowed(problem: Mapping[str, Any], table: Schema | None, name: str) -> str:
    """What the field ``name`` of ``table`` may be, as far as ``problem`` is about it: "at least 1"."""
    kind = str(problem["type"]).split("_")[0]
    field = table.model_fields.get(name) if table is not None and issubclass(table, BaseModel) else None
    if problem["type"] in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"} and field is not None:
        return bounds_in_words(field.metadata)
    if kind == "literal":
        return str(problem["ctx"]["expected"])
    return KINDS.get(kind, str(problem["msg"]))


def schema_at(schema: Schema, path: Sequence[str]) -> Schema | None:
    """The schema of the table at ``path``; None where there is none. Tables with free names have one schema."""
    for position, name in enumerate(path):
        found = _schemas_in(keys(schema).get(name))
        if not found:
            return None
        schema = found[0]
        if name in FREE:
            return schema if position + 2 == len(path) else None
    return schema


def _schemas_in(annotation: Any) -> list[Schema]:
    """The schemas that a type annotation mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel | Options):
        return [annotation]
    return [schema for argument in get_args(annotation) for schema in _schemas_in(argument)]


def _unknown_key(path: Sequence[str], schema: Schema) -> str:
    """Name the unknown key, the nearest known one (in its own table, or the same in another), and all of its table."""
    *parents, last = path
    if instead := GONE.get(".".join(path)):
        return f"{'.'.join(path)} is of version 0.1; {instead}"
    table = schema_at(schema, parents) or schema
    known = list(keys(table))
    tables = {name: schema_at(schema, [name]) for name in keys(schema)}
    elsewhere = [name for name, each in tables.items() if each is not None and last in keys(each)]
    nearest = [".".join([*parents, name]) for name in difflib.get_close_matches(last, known, n=1)]
    nearest += [f"{name}.{last}" for name in elsewhere]
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    where = f"[{'.'.join(parents)}] has" if parents else "the file has"
    return f"unknown key {'.'.join(path)!r}{hint}; {where}: {', '.join(known)}"
