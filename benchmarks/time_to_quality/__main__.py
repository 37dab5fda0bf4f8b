"""Time to quality: a user's default search, ours, and rivals at our cost, on one task; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import lines
from benchmarks.common.command import command, write
from benchmarks.time_to_quality.cases import PRESETS
from benchmarks.time_to_quality.report import report, result
from benchmarks.time_to_quality.rivals import ARMS, Row
from benchmarks.time_to_quality.runs import Key, measured
from prunetune.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        rows = _merged(options) if options.merge else _run(options)
    except InputError as error:
        parser.error(str(error))
    found = result(rows)
    print(report(found, markdown=options.markdown))
    write(options.json, found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command("time_to_quality", __doc__, file="write the result to this file")
    parser.add_argument("--scale", choices=PRESETS, default="cpu")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="searches of each arm (5)")
    parser.add_argument("--seed-from", type=int, default=0, metavar="K", help="the first seed (0)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="NAME", help="; ".join(ARMS))
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time, one thread each (1)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a JSON line for each seed and arm; goes on with it")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="run nothing: rows of earlier runs")
    return parser


def _run(options: argparse.Namespace) -> list[Row]:
    """The rows that there are already, and those that are run now; each is on file as soon as it ends."""
    rows = read(options.rows) if options.rows is not None and options.rows.exists() else []
    check_same(rows, options.scale)
    wanted = [
        (seed, arm) for arm in options.arms for seed in range(options.seed_from, options.seed_from + options.seeds)
    ]
    order = _seed_by_seed if options.jobs == 1 else _longest_first
    waiting = [key for key in sorted(wanted, key=order) if key not in {_key(row) for row in rows}]
    _check_costs_known(waiting, rows)
    with lines.appended(options.rows) as add:
        for row in measured(waiting, rows, options):
            rows.append(row)
            seconds = ARMS[row["arm"]].total(row, "cpu")
            cost = f"{seconds:.0f} CPU s, {seconds / row['final_cpu_seconds']:.2f} full trainings"
            print(f"seed {row['seed']}, {row['arm']}: {cost}, {row['test_accuracy']:.2%}", file=sys.stderr)
            add(row)
    asked = [row for row in rows if _key(row) in wanted]
    if not asked:
        raise InputError("there is nothing to run: --seeds must be at least 1")
    return asked


def _seed_by_seed(key: Key) -> tuple[int, int]:
    """So that what is interrupted has as many arms of every seed; ours is before those that wait for it."""
    return key[0], list(ARMS).index(key[1])


def _longest_first(key: Key) -> tuple[int, int]:
    """So that no process is left alone with a long one at the end."""
    return list(ARMS).index(key[1]), key[0]


def _key(row: Row) -> Key:
    return row["seed"], row["arm"]


def read(path: Path) -> list[Row]:
    """The rows in a file. Raises InputError if there are none or they are something else."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    for row in rows:
        if not isinstance(row, dict) or row.get("arm") not in ARMS or row.get("scale") not in PRESETS:
            raise InputError(f"{path} holds something else than rows of this benchmark: {str(row)[:80]}")
    return rows


def check_same(rows: Sequence[Row], scale: str) -> None:
    """Raise InputError for rows that another preset made, of which no table could be."""
    preset = json.loads(json.dumps(PRESETS[scale].record()))
    for row in rows:
        if row["scale"] != scale or row.get("preset") != preset:
            raise InputError(
                f"the row of seed {row['seed']}, {row['arm']!r}, is of another preset (scale {row['scale']!r}) than "
                f"{scale!r} is now: take another file"
            )


def _check_costs_known(waiting: Sequence[Key], rows: Sequence[Row]) -> None:
    have = {_key(row) for row in rows} | set(waiting)
    for seed, arm in waiting:
        beside = ARMS[arm].beside
        if ARMS[arm].at_cost and (seed, beside) not in have:
            raise InputError(
                f"{arm!r} spends what {beside!r} took, which is not known of seed {seed}: run that arm, too"
            )


def _merged(options: argparse.Namespace) -> list[Row]:
    rows = [row for path in options.merge for row in read(path)]
    if not rows:
        raise InputError(f"there are no rows in {', '.join(map(str, options.merge))}")
    check_same(rows, rows[0]["scale"])
    keys = [_key(row) for row in rows]
    twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
    if twice is not None:
        raise InputError(f"seed {twice[0]}, {twice[1]!r}, is there twice; leave one of the files out")
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
