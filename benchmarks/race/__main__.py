"""What racing the confirmations costs and saves, on learning curves of real trainings.

    OMP_NUM_THREADS=1 python -m benchmarks.race --json benchmarks/results/race.json

The curves are those of `benchmarks.optimizers`: digits is the full network and Fashion-MNIST its proxy, and the other
way round; so the proxy is a poor one. Of `SEARCHED` random configurations the best few on the "proxy" are confirmed, in
order, each score with noise; a rule stops some of them. Against no stopping: how often another one wins, how many
points that costs, and how many epochs are saved.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from benchmarks.common.command import command, provenance, write
from benchmarks.race.report import report
from benchmarks.race.runs import NOISE, REPEATS, SEARCHED, measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = command("race", __doc__)
    parser.add_argument("--scale", choices=REPEATS, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = measure(REPEATS[options.scale], options.seed)
    print(report(rows, markdown=options.markdown))
    settings = {"searched": SEARCHED, "noise": NOISE, "repeats": REPEATS[options.scale]}
    write(options.json, {**provenance(load=True), "seeds": [options.seed], "settings": settings, "rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
