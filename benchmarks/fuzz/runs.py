"""Random networks and random forward functions, drawn and checked."""

from __future__ import annotations

import sys
import time
from collections import Counter
from random import Random
from typing import Any

from prunetune.testing.fuzzer import OPERATIONS, TOLERANCE, Findings, check, draw, forwards


def forward_functions(count: int, first: int) -> dict[str, Any]:
    """Draw and check so many forward functions; the findings as plain values."""
    found, kinds, failures = Counter[str](), Counter[str](), []
    start = time.monotonic()
    for seed in range(first, first + count):
        program = forwards.draw(Random(seed))
        try:
            finding = forwards.check(program, seed)
        except Exception as error:  # whatever is raised is what is looked for
            failures.append({"seed": seed, "error": f"{type(error).__name__}: {error}", "program": program.source})
            print(f"seed {seed}: {failures[-1]['error']}\n{program.source}\n", flush=True)
            continue
        found[finding.outcome] += 1
        kinds.update(set(program.kinds))
    known = {name for family in forwards.FAMILIES for name in family}
    return {
        "forward_functions": count,
        "mismatches": len(failures),
        **found,
        "seconds": time.monotonic() - start,
        "kinds": dict(kinds.most_common()),
        "kinds_unused": sorted(known - set(kinds)),
        "failures": failures,
    }


def networks(count: int, first: int) -> dict[str, Any]:
    """Draw and check so many networks, fewer if interrupted; the findings as plain values."""
    found, failures = Findings(), []
    start = time.monotonic()
    try:
        for seed in range(first, first + count):
            failure = _one(seed, found)
            if failure is not None:
                failures.append(failure)
                print(f"seed {seed}: {failure['error']}\n{failure['program']}\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted; so far:", file=sys.stderr)
    return summary(found, failures, time.monotonic() - start)


def _one(seed: int, found: Findings) -> dict[str, Any] | None:
    """Draw and check one network; what went wrong, if anything did."""
    program = draw(Random(seed))
    try:
        found.add(check(program, seed))
    except Exception as error:  # whatever the engine or the cut network raises is what is looked for
        return {"seed": seed, "error": f"{type(error).__name__}: {error}", "program": str(program)}
    return None


def summary(found: Findings, failures: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The findings as plain values."""
    return {
        "networks": found.networks,
        "mismatches": len(failures),
        "cut": found.cut,
        "discarded": found.discarded,
        "units": found.units,
        "units_removed": found.removed,
        "tolerance": TOLERANCE,
        "seconds": seconds,
        "operations": dict(found.operations.most_common()),
        "operations_unused": sorted(set(OPERATIONS) - set(found.operations)),
        "frozen": dict(found.frozen.most_common()),
        "failures": failures,
    }
