"""Random networks out of all operations, cut at random, and the result held against an oracle.

The test suite does this with a few hundred networks (`tests/testing/test_fuzz.py`, where it is explained); here are as
many as you like, of new seeds. What fails is printed as a program that can be run again; the exit status is then 1.

With `--forwards N`, random forward functions instead (`prunetune.testing.fuzzer.forwards`): exact or frozen, and
nothing changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from prunetune.record.provenance import machine, versions
from prunetune.testing.fuzzer import OPERATIONS, TOLERANCE, Findings, check, draw, forwards


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--networks", type=int, default=5000, metavar="N")
    parser.add_argument("--forwards", type=int, metavar="N", help="so many forward functions instead of networks")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first network; the next has S + 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if options.forwards is not None:
        return _forwards(options.forwards, options.seed, options.json)
    found, failures = Findings(), []
    start = time.monotonic()
    try:
        for seed in range(options.seed, options.seed + options.networks):
            failure = _one(seed, found)
            if failure is not None:
                failures.append(failure)
                print(f"seed {seed}: {failure['error']}\n{failure['program']}\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted; so far:", file=sys.stderr)
    record = summary(found, failures, time.monotonic() - start)
    print(text(record))
    if options.json is not None:
        record |= {"first_seed": options.seed, "machine": machine(nn.Linear(1, 1)), "versions": versions()}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if failures else 0


def _forwards(count: int, first: int, file: Path | None) -> int:
    """Draw and check so many forward functions; returns the exit status."""
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
    record = {
        "forward_functions": count,
        "mismatches": len(failures),
        **found,
        "seconds": time.monotonic() - start,
        "kinds": dict(kinds.most_common()),
        "kinds_unused": sorted(known - set(kinds)),
        "failures": failures,
    }
    print("\n".join(f"{name:<18} {value}" for name, value in record.items() if name not in ("kinds", "failures")))
    if file is not None:
        record |= {"first_seed": first, "machine": machine(nn.Linear(1, 1)), "versions": versions()}
        file.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if failures else 0


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


def text(record: dict[str, Any]) -> str:
    """The findings for people."""
    networks, operations = record["networks"], sorted(record["operations"].items(), key=lambda item: item[1])
    rarest = ", ".join(f"{name} {count:,}" for name, count in operations[:3])
    lines = [
        f"networks    {networks:,} in {record['seconds']:.0f} s, {record['cut']:,} of them with something cut",
        f"mismatches  {record['mismatches']:,} (outputs relative to 1e-5 or their largest, {record['tolerance']:g})",
        f"discarded   {record['discarded']:,} that torch itself refuses to run",
        f"units       {record['units']:,}, of which {record['units_removed']:,} were removed",
        f"operations  {len(operations)}; the rarest: {rarest or 'none'} networks",
        *(f"unused      {name}" for name in record["operations_unused"]),
        "frozen, by how many networks:",
        *(f"  {count:>6,}  {reason}" for reason, count in list(record["frozen"].items())[:25]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
