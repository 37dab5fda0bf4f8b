"""How many parameters are left at `ratio=0.5`, beside how many the same network has at half of its widths.

`python -m benchmarks.shares` prunes every network of `cases.py` by magnitude, and has the cut judged: by the
original with zeros, or by tensors that know what is gone (`oracle` and `presence` of `prunetune.testing`). What
is frozen is printed with its reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.engine.report import table
from benchmarks.shares.cases import KINDS, Kind
from prunetune import PruneResult, prune
from prunetune.errors import PrunetuneError
from prunetune.record.provenance import machine, versions
from prunetune.testing.fuzzer import WrongCutError, compare
from prunetune.testing.oracle import error_of_architecture, randomise
from prunetune.testing.presence import Mismatch

EXACT = 1e-9


def main(arguments: Sequence[str] | None = None) -> int:
    """Prune and judge the networks that the command line names; returns 1 if one was cut wrongly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shares", description=__doc__)
    parser.add_argument("--network", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the shares to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = [measured(name, KINDS[name]) for name in options.network]
    cells = [[r["network"], percent(r["left"]), percent(r["possible"]), r["judged"]] for r in rows]
    print(f"\n{table(['network', 'left, %', 'possible, %', 'judged'], cells, markdown=True)}")
    if options.json is not None:
        record = {"benchmark": "shares", "machine": machine(nn.Linear(1, 1)), "versions": versions(), "networks": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(row["judged"].startswith("WRONG") for row in rows))


def measured(name: str, kind: Kind) -> dict[str, Any]:
    """The share that is left, the share that is possible, what the judge says, and what is frozen."""
    whole, possible = size_of(kind.build(1).model), size_of(kind.build(2).model)
    torch.manual_seed(0)
    case = kind.build(1)
    model = randomise(case.model, 0) if kind.judged else case.model
    inputs = pytree.tree_map(_double, case.inputs) if kind.judged else case.inputs
    row = {"network": name, "parameters": whole, "possible": possible / whole, "left": 1.0, "frozen": []}
    try:
        result = prune(model, inputs, scorer="magnitude", ratio=0.5)
    except PrunetuneError as error:
        print(f"{name}: {error}", flush=True)
        return {**row, "judged": "refused", "frozen": [str(error)]}
    row |= {"left": size_of(result.model) / whole, "judged": verdict(kind, model, result, inputs)}
    row["frozen"] = [f"{f.node}: {f.reason} ({f.channels})" for f in result.frozen]
    print(f"{name}: {percent(row['left'])} % left of {percent(row['possible'])} %, {row['judged']}", flush=True)
    for line in row["frozen"]:
        print(f"    {line}", flush=True)
    return row


def verdict(kind: Kind, model: nn.Module, result: PruneResult, inputs: Any) -> str:
    """Whether the cut network computes what it must."""
    if not kind.judged:
        return "runs"
    try:
        if kind.zeros:
            error = error_of_architecture(model, result.model, result.plan, inputs)
            return "exact" if error < EXACT else f"WRONG by {error:.1e}"
        compare(model, result.model, result.plan, inputs if isinstance(inputs, tuple) else (inputs,))
    except (WrongCutError, Mismatch) as error:
        return f"WRONG: {error}"
    except NotImplementedError as error:
        return f"not judged: {error}"
    return "exact"


def size_of(model: nn.Module) -> int:
    """Numbers that are trained; a complex one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


if __name__ == "__main__":
    sys.exit(main())
