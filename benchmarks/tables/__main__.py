"""Transfer rules and optimizers on public tables of perceptrons, which nobody here has trained.

The tables are downloaded by pip into --folder when they are first wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.command import command, provenance, write
from benchmarks.tables.cases import tables
from benchmarks.tables.report import report, result
from benchmarks.tables.runs import ranks, searched, ways
from prunetune.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit status."""
    parser = command("tables", __doc__, file="write the result to this file")
    parser.add_argument("--folder", type=Path, default=Path("data/tables"), help="where the tables are (data/tables)")
    parser.add_argument("--draws", type=int, default=200, help="searches of each way at random (200)")
    parser.add_argument("--optimized", type=int, default=5, help="searches of each way by an optimizer (5)")
    options = parser.parse_args(arguments)
    try:
        known = tables(options.folder)
    except InputError as error:
        parser.error(str(error))
    ranked, rows = [row for table in known for row in ranks(table)], []
    for way in ways():
        draws = options.draws if way.optimizer == "random" else options.optimized
        rows += [searched(table, way, draws) for table in known]
        print(f"{way.name}: done", file=sys.stderr)
    found = result(ranked, rows)
    print(report(found, markdown=options.markdown))
    write(options.json, {"benchmark": "tables", **provenance(), **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
