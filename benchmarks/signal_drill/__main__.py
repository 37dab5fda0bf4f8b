"""Send signals to `prunetune run` at random moments, and see whether any is lost: `python -m benchmarks.signal_drill`.

All starts share a run folder, so that each goes on with what the one before has left. SIGINT and SIGTERM by turns come
in the first `--within` seconds: while Python starts, while everything is imported, while the proxy is cut, in trials.
The command must end soon, with the signal's exit status and one sentence. With `--kill` the run has two workers more,
and is killed without warning: no process of it may be left after a heartbeat. With `--worker` one of these workers gets
SIGTERM, and has to end, and the search of the run goes on to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.common.command import command, provenance, write
from benchmarks.signal_drill.runs import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 1 if something is wrong."""
    parser = command("signal_drill", __doc__, file="write what was found to this file", markdown=False)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--within", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--kill", dest="mode", action="store_const", const="kill", help="kill a run with workers")
    parser.add_argument("--worker", dest="mode", action="store_const", const="worker", help="end one of its workers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    found = run(options.count, within=options.within, mode=options.mode or "run", seed=options.seed)
    wrong = sum(bool(each.failures) for each in found)
    print(f"{len(found)} signals, {wrong} with something wrong; the longest end took", end=" ")
    print(f"{max(each.seconds for each in found):.1f} s")
    write(options.json, {"sent": [asdict(each) for each in found], **provenance()})
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
