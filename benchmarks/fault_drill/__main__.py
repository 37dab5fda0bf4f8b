"""Kill workers of one search at random moments, and see whether anything was lost: `python -m benchmarks.fault_drill`.

Half of the workers pretend to be on another machine, where a dead process can only be noticed by its silence. At the
end there must be exactly as many finished trials as were asked for, every one that a worker was told is recorded among
them, none begun twice, none still running, and the hyperparameters of the dead tried again, but none finished twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.common.command import command, provenance, write
from benchmarks.common.postgres import postgres
from benchmarks.fault_drill.runs import Drill, run
from prunetune.backends.study.storage import without_password
from prunetune.backends.study.study import outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 1 if something is wrong."""
    parser = command("fault_drill", __doc__, file="write what was found to this file", markdown=False)
    parser.add_argument("--storage", help="the URL of an empty storage; default: SQLite in a new folder")
    parser.add_argument("--postgresql", action="store_true", help="a server that is started for it")
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = options.storage or f"sqlite:///{folder}/study.db"
        url = stack.enter_context(postgres()).url if options.postgresql else url
        found = run(Drill(url, options.trials, options.workers, options.kills, seed=options.seed))
        print(f"{without_password(url)}: {options.workers} workers, {found.kills} killed, in {found.seconds:.1f} s")
        print(f"finished {len(found.finished)}, interrupted {len(found.interrupted)}, of them tried again", end=" ")
        print(
            f"{len(found.retried)}; withdrawn {sum(t.state.is_finished() and outcome(t) is None for t in found.trials)}"
        )
        for failure in found.failures:
            print("WRONG:", failure)
        write(
            options.json,
            {
                "storage": without_password(url).partition(":")[0],
                **{name: getattr(options, name) for name in ("trials", "workers", "kills", "seed")},
                "killed": found.kills,
                "seconds": found.seconds,
                **{name: len(getattr(found, name)) for name in ("finished", "interrupted", "retried")},
                "failures": list(found.failures),
                **provenance(),
            },
        )
    return int(bool(found.failures))


if __name__ == "__main__":
    raise SystemExit(main())
