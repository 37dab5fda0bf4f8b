"""The command ``prunetune``, also as ``python -m prunetune``: signals are heeded before anything heavy is imported."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command takes care of it, and once it has ended

from prunetune._utils.interrupts import NOT_BEGUN, answered, interruptible


def main() -> None:
    """Run the command line."""
    import io
    import os
    import sys

    # Threads that wait for each other at the end of every operation spin for long by default, which on cores that
    # something else uses too made training steps about 2.5 times slower than spinning briefly does (measured once, load
    # not controlled). On idle cores spinning briefly costs a small network's step about a tenth. GNU OpenMP reads this
    # when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")  # a terminal that has no such character shows a question mark
    try:
        with interruptible(signal.SIGINT, signal.SIGTERM):
            from prunetune.cli.app import app  # after the signals are minded

            app()
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(NOT_BEGUN)
        sys.exit(answered(interrupt))


if __name__ == "__main__":
    main()
