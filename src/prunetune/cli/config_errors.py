"""Pydantic's errors as sentences: the key, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

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
BOUNDS: Final = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


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
        message = str(problem["ctx"]["error"])
        return message if message.startswith(f"{path[0]}.") else f"{key} {message}"
    given = problem["input"]
    shown = "a table" if isinstance(given, dict) and given else repr(given)
    if path[-1].isdigit():  # a place in a list
        path.pop()
    table = schema_at(schema, path[:-1])
    return f"{'.'.join(path)} is {shown}, but it must be {allowed(problem, table, path[-1])}"


def allowed(problem: Mapping[str, Any], table: type[BaseModel] | None, name: str) -> str:
    """What the field ``name`` of ``table`` may be, as far as ``problem`` is about it: "at least 1"."""
    kind = str(problem["type"]).split("_")[0]
    field = table.model_fields.get(name) if table is not None else None
    if problem["type"] in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"} and field is not None:
        return " and ".join(_bounds(field))
    if kind == "literal":
        return str(problem["ctx"]["expected"])
    return KINDS.get(kind, str(problem["msg"]))


def schema_at(schema: type[BaseModel], path: Sequence[str]) -> type[BaseModel] | None:
    """The schema of the table at ``path``; None where there is none. Tables with free names have one schema."""
    for position, name in enumerate(path):
        if name not in schema.model_fields:
            return None
        found = _schemas_in(schema.model_fields[name].annotation)
        if not found:
            return None
        schema = found[0]
        if name == "space":
            return schema if position + 2 == len(path) else None
    return schema


def _schemas_in(annotation: Any) -> list[type[BaseModel]]:
    """The schemas that a type annotation mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [schema for argument in get_args(annotation) for schema in _schemas_in(argument)]


def _bounds(field: FieldInfo) -> list[str]:
    """The limits of a number: ["above 0", "below 100"]."""
    return [
        f"{word} {getattr(limit, end):,}"
        for limit in field.metadata
        for end, word in BOUNDS.items()
        if getattr(limit, end, None) is not None
    ]


def _unknown_key(path: Sequence[str], schema: type[BaseModel]) -> str:
    """Name the unknown key, the nearest known one (in its own table, or the same in another), and all of its table."""
    *parents, last = path
    table = schema_at(schema, parents) or schema
    known = list(table.model_fields)
    elsewhere = [name for name in schema.model_fields if last in getattr(schema_at(schema, [name]), "model_fields", ())]
    nearest = [".".join([*parents, name]) for name in difflib.get_close_matches(last, known, n=1)]
    nearest += [f"{name}.{last}" for name in elsewhere]
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    where = f"[{'.'.join(parents)}] has" if parents else "the file has"
    return f"unknown key {'.'.join(path)!r}{hint}; {where}: {', '.join(known)}"
