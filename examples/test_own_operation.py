"""The rule of `own_operation.py`, proved: `python -m pytest test_own_operation.py` in this folder."""

from __future__ import annotations

import torch
from own_operation import FastLinear
from torch import nn

from prunetune.testing import assert_exact, fuzz, means
from prunetune.testing.fuzzer import layer


@means(FastLinear)
def reference(module, x):
    """What the kernel computes, in torch's own functions: the oracle looks into these."""
    return x @ module.weight


def test_every_cut_is_exact() -> None:
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), FastLinear(32, 24), nn.ReLU(), nn.Linear(24, 5))
    found = assert_exact(model, torch.randn(4, 10))
    assert found.removed > 0
    assert set(found.frozen) == {"output: it is the model's output"}  # nothing else is left whole


# How random networks get the operation: the layouts of tensors that it takes, its options, and what makes the module.
@layer(("sequence", "vector"), lambda dice, x: {"out": dice.width(x.layout)})
def fast_linear(x, out):
    return FastLinear(x.channels, out)


def test_it_is_exact_among_all_other_operations() -> None:
    fuzz("fast_linear", networks=50)
