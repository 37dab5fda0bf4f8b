"""What does a search take besides its trainings? A `tune` whose train function takes no time, beside plain Optuna.

Processor time, children included, each search in a process of its own on one thread: milliseconds a trial, of all, of
the first hundred and of the last; seconds for all that is neither trial nor report (cutting, timing, planning, the
confirmation); seconds and size of the report.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.command import command, provenance, write
from benchmarks.common.tables import table
from benchmarks.overhead import rivals, runs
from benchmarks.overhead.cases import OPTIMIZERS, REPORT_TRIALS, TRIALS

HEADER = (
    *("who", "network", "optimizer", "trials", "ms a trial", "first hundred", "last hundred"),
    *("fixed s", "report s", "report MB"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = command("overhead", __doc__)
    parser.add_argument(
        "--trials", type=int, nargs="+", default=TRIALS, metavar="N", help="of the perceptron's searches"
    )
    parser.add_argument("--optimizer", nargs="+", default=OPTIMIZERS, metavar="NAME", choices=OPTIMIZERS)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="of another version, which is run, too")
    parser.add_argument("--no-resnet56", action="store_true", help="the perceptron only")
    options = parser.parse_args(arguments)
    searches = [("perceptron", name, trials) for trials in options.trials for name in options.optimizer]
    if not options.no_resnet56:
        searches += [("perceptron", "random", REPORT_TRIALS), ("resnet56", "random", 24)]
    rows = []
    versions = {"before": options.before, "now": None} if options.before else {"now": None}
    for network, optimizer, trials in searches:
        for who, checkout in versions.items():
            rows.append({"who": who, **runs.alone(runs.__name__, network, optimizer, trials, checkout=checkout)})
        if network == "perceptron":
            rows.append({"who": "optuna", **runs.alone(rivals.__name__, optimizer, trials)})
        print(rows[-1], file=sys.stderr, flush=True)
    write(options.json, {**provenance(threads=1, load=True), "seeds": [0], "rows": rows})
    print(table(HEADER, [[row.get(column) for column in HEADER] for row in rows], markdown=options.markdown))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
