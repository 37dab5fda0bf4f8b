"""What a cut network must compute, found without the engine: the original, run on tensors that know what is gone.

`Present` is a tensor with a second one of its shape that says, element by element, what is still there. It goes through
the original model's own code; every torch function has a meaning here that follows from the element-wise picture alone:

* what only moves data moves both tensors by the very same function;
* what joins tensors demands that the same elements are there on all sides, else the cut is a `Mismatch`;
* what sums over elements, and what normalises by them, sees only those that are there.

Of the engine's work nothing is read but the plan's kept indices of the parameters and buffers. What is gone holds NaN,
so that an oversight here would be seen and could not pass for a right answer. A function without a meaning raises;
`means` gives it one.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune.engine import ExampleInputs, PruningPlan, call_arguments
from prunetune.testing.presence import functions, indices, layers
from prunetune.testing.presence.tensors import (
    Mismatch,
    Present,
    compact,
    meaning_of_module,
    means,
    outer,
    present,
)

__all__ = ["Mismatch", "Present", "expected", "functions", "indices", "layers", "means", "with_gaps"]


def with_gaps(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """A copy of `model` whose parameters and buffers are `Present` where `plan` cuts them."""
    memo: dict[int, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in plan.tensors:
            keeps = [torch.ones(n, dtype=torch.bool) for n in tensor.shape]
            for dim, kept in plan.tensors[name].keep.items():
                keeps[dim] = torch.zeros(tensor.shape[dim], dtype=torch.bool)
                keeps[dim][list(kept)] = True
            memo[id(tensor)] = present(tensor.detach().clone(), outer(keeps), name)
        else:
            memo[id(tensor)] = tensor
    gapped = copy.deepcopy(model, memo)
    for module in gapped.modules():
        if (meaning := meaning_of_module(type(module))) is not None:
            module.forward = functools.partial(meaning, module)
    return gapped


def expected(model: nn.Module, plan: PruningPlan, inputs: ExampleInputs) -> list[Tensor]:
    """The outputs of `model` in evaluation mode as they must be after the cut. Raises Mismatch if there are none."""
    args, kwargs = call_arguments(inputs)
    with torch.no_grad():
        out = with_gaps(model, plan).eval()(*args, **kwargs)
    return [compact(leaf) for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]
