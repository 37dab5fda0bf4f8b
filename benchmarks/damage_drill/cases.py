"""The ways in which a file of a run folder is damaged."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

DEEP: Final = 100_000
UNREAD: Final = ("run.lock", "report.html")
WRONG: Final = (None, -1, 10**30, 0.5, math.nan, "", "é", True, [], [None], {}, {"a": []})


def damage(folder: Path, rng: random.Random) -> str:
    """Damage a file of the folder; says how."""
    path = rng.choice(sorted(each for each in folder.iterdir() if each.name not in UNREAD))
    ways = [_bytes, _shorter, _other, _gone]
    if path.suffix == ".json":
        ways += [_field] * 12
    if path.suffix == ".log":
        ways += [_line] * 12
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
    return _change(json.loads(path.read_text()), rng, path.write_text)


def _line(path: Path, rng: random.Random) -> str:
    """A line of a journal is lost, or one of its values is another."""
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    if rng.random() < 0.3:
        path.write_text("".join(f"{line}\n" for number, line in enumerate(lines) if number != place))
        return f"line {place + 1} deleted"

    def write(text: str) -> None:
        path.write_text("".join(f"{text if number == place else line}\n" for number, line in enumerate(lines)))

    return f"line {place + 1}: {_change(json.loads(lines[place]), rng, write)}"


def _change(content: Any, rng: random.Random, write: Callable[[str], object]) -> str:
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
        write(json.dumps(content).replace('"DEEP"', "[" * DEEP + "]" * DEEP))
        return f"{name} nested deeply"
    else:
        at[key] = rng.choice(WRONG)
        said = f"{name} = {at[key]!r}"
    write(json.dumps(content))
    return said
