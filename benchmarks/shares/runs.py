"""One network cut to half, and judged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.shares.cases import Kind
from prunetune import PruneResult, prune
from prunetune.errors import PrunetuneError
from prunetune.testing.fuzzer import WrongCutError, compare
from prunetune.testing.oracle import error_of_architecture, randomise
from prunetune.testing.presence import Mismatch

EXACT = 1e-9


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
