"""What searches of several rungs choose, and the usual tricks at the same total cost, replayed on tables of trainings.

Nothing is trained: the rows that `benchmarks.transfer` and trainings of many perceptrons have left are looked up,
thousands of times in random orders. See benchmarks/README.md for what is counted, and what these tables cannot say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.common.command import command, provenance, write
from benchmarks.ladders.cases import load
from benchmarks.ladders.report import given, replayed, report
from benchmarks.ladders.runs import Ladder, parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay what the command line asks for; returns the exit status."""
    tables = {table.name: table for table in load()}
    parser = command("ladders", __doc__)
    parser.add_argument("--table", nargs="+", choices=tables, default=list(tables), metavar="NAME", help=str([*tables]))
    parser.add_argument(
        "--ladder", type=_ladder, metavar="TEXT", help="only this one, at its own cost: '24 first epoch > 4 full'"
    )
    parser.add_argument("--draws", type=int, default=2000, help="random orders of the configurations (2000)")
    parser.add_argument("--resamples", type=int, default=200, help="of the configurations, for intervals (200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    chosen = [tables[name] for name in options.table]
    if options.ladder is not None:
        for table in chosen:
            unknown = [rung.way for rung in options.ladder if rung.way not in table.scores]
            if unknown or options.ladder[0].trials > len(table.truth):
                parser.error(f"{table.name} has {len(table.truth)} configurations, trained as {list(table.scores)}")
            each = given(options.ladder, table, options.draws, options.seed)
            print(f"{table.name}: costs {each['cost']:.2f}, regret {each['regret']:.2f} points")
            write(options.json, {"benchmark": "ladders", **provenance(), "table": table.name, **each})
        return 0
    found = {}
    for table in chosen:
        found[table.name] = replayed(table, options.draws, options.resamples, options.seed)
        print(f"{table.name} replayed", file=sys.stderr, flush=True)
    print(report(found, markdown=options.markdown))
    settings = {"draws": options.draws, "resamples": options.resamples}
    start = {"benchmark": "ladders", **provenance(), "seeds": [options.seed], "settings": settings}
    write(options.json, {**start, "tables": found})
    return 0


def _ladder(text: str) -> Ladder:
    try:
        return parsed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    raise SystemExit(main())
