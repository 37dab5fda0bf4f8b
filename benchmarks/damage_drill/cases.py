"""The ways in which a file of a run folder is damaged."""

from __future__ import annotations

import contextlib
import json
import math
import random
import sqlite3
from pathlib import Path
from typing import Final

DEEP: Final = 100_000
UNREAD: Final = ("run.lock", "report.html")
WRONG: Final = (None, -1, 10**30, 0.5, math.nan, "", "é", True, [], [None], {}, {"a": []})


def damage(folder: Path, rng: random.Random) -> str:
    """Damage a file of the folder; says how."""
    path = rng.choice(sorted(each for each in folder.iterdir() if each.name not in UNREAD))
    ways = [_bytes, _shorter, _other, _gone]
    if path.suffix == ".json":
        ways += [_field] * 12
    if path.suffix == ".db":
        ways += [_rows] * 12
    return f"{folder.name}: {path.name}: {rng.choice(ways)(path, rng)}"


def _bytes(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    for place in (places := [rng.randrange(len(content)) for _ in range(rng.choice([1, 20, 1000]))]):
        content[place] = rng.randrange(256)
    path.write_bytes(content)
    return f"{len(places)} bytes changed"


def _shorter(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    length = rng.choice([0, 1, rng.randrange(len(content))])
    path.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def _other(path: Path, rng: random.Random) -> str:
    path.write_bytes(rng.randbytes(rng.randrange(10_000)))
    return "random bytes"


def _gone(path: Path, rng: random.Random) -> str:
    path.unlink()
    if rng.random() < 0.5:
        return "deleted"
    path.mkdir()
    return "a folder in its place"


def _field(path: Path, rng: random.Random) -> str:
    content = json.loads(path.read_text())
    at, where = content, []
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = rng.choice(keys)
        where.append(str(key))
        inside = at[key]
        if not isinstance(inside, dict | list) or not inside or rng.random() < 0.4:
            break
        at = inside
    name = ".".join(where)
    if rng.random() < 0.3:
        del at[key]
        said = f"{name} deleted"
    elif rng.random() < 0.1:
        at[key] = "DEEP"
        path.write_text(json.dumps(content).replace('"DEEP"', "[" * DEEP + "]" * DEEP))
        return f"{name} nested deeply"
    else:
        at[key] = rng.choice(WRONG)
        said = f"{name} = {at[key]!r}"
    path.write_text(json.dumps(content))
    return said


def _rows(path: Path, rng: random.Random) -> str:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        full = [name for name in tables if database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]]
        table = rng.choice(full)
        if rng.random() < 0.05:
            database.execute(f"DROP TABLE {table}")
            return f"table {table} dropped"
        row = rng.choice([each for (each,) in database.execute(f"SELECT rowid FROM {table}")])
        if rng.random() < 0.3:
            database.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
            return f"row {row} of {table} deleted"
        column = rng.choice([each[1] for each in database.execute(f"PRAGMA table_info({table})")])
        values = ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"] if column == "state" else []
        value = rng.choice([*values, None, -1, 10**6, 0.5, "", "é", "[1]", "{}", b"\xff\x00"])
        try:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
        except sqlite3.Error as error:  # the database has rules of its own
            return f"{table}.{column} could not be {value!r} ({error})"
        return f"{table}.{column} of row {row} = {value!r}"
