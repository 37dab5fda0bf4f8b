"""Random networks out of all operations, cut at random, against the oracle. The long run is `benchmarks.fuzz`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from prunetune.engine import DependencyGraph, PruningPlan, apply, by_hand
from prunetune.engine.rules import table
from prunetune.testing import presence
from prunetune.testing.fuzzer import WrongCutError, check, compare, draw
from prunetune.testing.fuzzer.programs import OPERATIONS, Network, Program, example_inputs
from prunetune.testing.oracle import randomise

FOUND = [  # what it has found so far
    """
    x0 = input(layout='image', shape=(2, 3, 4, 4))
    x1 = conv(x0, out=6, kernel=1, stride=1, groups=1)
    x2 = roll(x1, shifts=-2, dim=1)
    x3 = pool_places(x2, kind='sum', dims=(2, 3))
    x4 = linear(x3, out=3, bias=True)
    return x4
    """,
    """
    x0 = input(layout='sequence', shape=(2, 3, 4))
    x1 = linear_over_places(x0, out=6)
    x2 = recurrent(x1, kind='GRU', hidden=4, layers=1, both_ways=False, final=False)
    x3 = self_attention(x1, heads=1, kind='module')
    return x2, x3
    """,
    """
    x0 = input(layout='image', shape=(2, 4, 2, 2))
    x1 = linear_over_places(x0, out=4)
    x2 = pixel_unshuffle(x1)
    x3 = conv(x2, out=6, kernel=1, stride=1, groups=1)
    x4 = pool_places(x3, kind='mean', dims=(2, 3))
    return x4
    """,
    """
    x0 = input(layout='sequence', shape=(2, 4, 3))
    x1 = linear(x0, out=6, bias=True)
    x2 = written_tokens(x1, x1, index=[0, 2])
    x3 = norm_everything(x2)
    x4 = readout(x3, kind='sum', out=3)
    return x4
    """,
]


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(0, 9))
def test_random_cuts_of_random_networks(random: Random, seed: int) -> None:
    program = draw(random)
    note(repr(program))
    check(program, seed)


@pytest.mark.parametrize("text", FOUND)
@pytest.mark.parametrize("seed", range(6))
def test_what_was_found(text: str, seed: int) -> None:
    check(Program.parse("\n".join(line.strip() for line in text.strip().splitlines())), seed)


def test_programs_are_text_and_use_every_operation() -> None:
    used: Counter[str] = Counter()
    for seed in range(400):
        program = draw(Random(seed))
        assert Program.parse(str(program)) == program
        used.update(step.operation for step in program.steps)
    assert set(used) == set(OPERATIONS)


def test_most_networks_lose_something() -> None:
    found = [check(draw(Random(seed)), seed) for seed in range(60)]
    assert sum(f.cut for f in found) > 0.6 * sum(f.networks for f in found) > 30


# -- would it be seen? -------------------------------------------------------------------------------------------------

CHAIN = Program.parse(
    """x0 = input(layout='image', shape=(2, 3, 4, 4))
x1 = conv(x0, out=6, kernel=3, stride=1, groups=1)
x2 = flip(x1, dim=1)
x3 = batch_norm(x2, affine=True, statistics=True)
x4 = conv(x3, out=4, kernel=1, stride=1, groups=1)
return x4"""
)


def pruned_chain() -> tuple[Any, Any, PruningPlan]:
    model, inputs = randomise(Network(CHAIN), 0), example_inputs(CHAIN)
    plan = PruningPlan.of(graph := DependencyGraph.of(model, inputs), by_hand(graph, remove={"x1": [0, 2]}))
    return model, inputs, plan


def test_the_oracle_agrees_with_a_right_cut() -> None:
    model, inputs, plan = pruned_chain()
    compare(model, apply(plan, model), plan, inputs)


@pytest.mark.parametrize("name", ["x1.weight", "x1.bias", "x3.weight", "x3.running_mean", "x4.weight"])
def test_the_oracle_sees_one_wrong_index(name: str) -> None:
    """Every tensor that is cut: another index instead of one of those kept."""
    model, inputs, plan = pruned_chain()
    cut = plan.tensors[name]
    ((dim, kept),) = cut.keep.items()
    other = next(i for i in range(cut.shape[dim]) if i not in kept)
    wrong = replace(cut, keep={dim: tuple(sorted((*kept[1:], other)))})
    broken = PruningPlan({**plan.tensors, name: wrong}, plan.attributes)
    with pytest.raises((presence.Mismatch, WrongCutError)):
        compare(model, apply(broken, model), broken, inputs)


@pytest.mark.parametrize("name", ["x1.weight", "x3.running_var", "x4.weight"])
def test_the_oracle_sees_values_that_are_wrong(name: str) -> None:
    model, inputs, plan = pruned_chain()
    smaller = apply(plan, model)
    with torch.no_grad():
        smaller.state_dict()[name].flatten()[0] += 1e-6
    with pytest.raises(WrongCutError, match="an output is wrong by"):
        compare(model, smaller, plan, inputs)


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flip that is believed to leave channels where they are."""
    monkeypatch.setitem(table.rules, torch.Tensor.flip, lambda ctx, x, dims: ctx.result(ctx.vecs(x)))
    model, inputs, plan = pruned_chain()
    with pytest.raises(presence.Mismatch):
        compare(model, apply(plan, model), plan, inputs)
