"""Is a budget kept? Searches on the digits for a time or so many full trainings: `python -m benchmarks.budgets`.

With `--burn N` that many processes compute beside each start. With `--kill` the process is killed once on every rung,
and the same call goes on: the times of all starts are summed up.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.budgets.runs import Budget, report, started
from benchmarks.common import lines
from benchmarks.common.command import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 1 if a budget was not kept."""
    parser = command("budgets", __doc__, file=None)
    lines.add_arguments(parser, resume=True)
    parser.add_argument("--budget", default="3m", help="time, or a number of full trainings (3m)")
    parser.add_argument("--starts", type=int, default=10, metavar="N")
    parser.add_argument("--burn", type=int, default=0, metavar="N", help="processes that compute beside it (0)")
    parser.add_argument("--kill", action="store_true", help="kill it once on every rung, and go on")
    parser.add_argument("--seed", type=int, default=0, help="of the first start (0)")
    options = parser.parse_args(arguments)
    rows = lines.earlier(options, parser)
    asked = Budget(options.budget, options.burn, options.kill)
    with lines.sitting(options.json) as add:
        for seed in range(options.seed, options.seed + options.starts):
            row = started(asked, seed)
            print(f"seed {seed}: {row}", file=sys.stderr)
            rows.append(row)
            add(row)
    print(report(rows, markdown=options.markdown))
    return int(any(not row["kept"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
