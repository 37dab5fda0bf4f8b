"""The check of a cut: the smaller network computes what it should, trains and costs what was said."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from prunetune.engine import DependencyGraph, ExampleInputs, PruningPlan, apply, call_arguments, cost
from prunetune.engine.analysis import NO_RULE
from prunetune.errors import InputError, unknown_name
from prunetune.testing import presence
from prunetune.testing.fuzzer.drawing import draw
from prunetune.testing.fuzzer.programs import OPERATIONS, Network, Program, example_inputs
from prunetune.testing.oracle import TOLERANCE, WrongCutError, assert_equal, outputs, randomise


@dataclass
class Findings:
    """What one network or many have shown."""

    networks: int = 0
    discarded: int = 0
    """Networks that do not run themselves, as with a batch norm over one value in training mode."""
    cut: int = 0
    """Networks that have lost something."""
    units: int = 0
    """The smallest things that can be removed, of all networks together."""
    removed: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    frozen: Counter[str] = field(default_factory=Counter)
    """Operations that keep channels and why, and how often."""

    def add(self, other: Findings) -> None:
        """Count what the other has found, too."""
        for name in ("networks", "discarded", "cut", "units", "removed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.operations += other.operations
        self.frozen += other.frozen


def assert_exact(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    cuts: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    tolerance: float = TOLERANCE,
) -> Findings:
    """Prove on random cuts that what is left of the model computes what the whole of it does without these channels.

    For every cut a copy of the model gets random weights, so that no channel is zero by chance. The oracle, which knows
    nothing of the engine's rules, says what the smaller network must compute (`prunetune.testing.presence`).

    Parameters
    ----------
    example_inputs
        As for `prunetune.prune`; tensors of floating point get the dtype.
    cuts, seed
        How many cuts, and the seed of the first one; the next has the next seed.
    dtype, tolerance
        What is computed in, and by how much of its largest value an output may be wrong. Float32 needs some 1e-4.

    Returns
    -------
    Findings
        Among them `frozen`: the operations that keep channels whole, and why.

    Raises
    ------
    AssertionError
        A cut is wrong (`WrongCutError`), or keeps things that do not fit together (`presence.Mismatch`).
    NotImplementedError
        The oracle does not know an operation; `prunetune.testing.means` tells it.
    InputError
        Nothing is proved: nothing of the model can be cut, or it does not run with random weights.

    Example
    -------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> assert_exact(model, torch.randn(3, 4), cuts=5).networks
    5
    """
    inputs = pytree.tree_map(
        lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x, example_inputs
    )
    found = Findings()
    for number in range(seed, seed + cuts):
        try:
            found.add(check_cut(randomise(copy.deepcopy(model), number, dtype), inputs, number, tolerance=tolerance))
        except Exception as error:
            error.add_note(f"Found with seed={number}, cuts=1.")
            raise
    if not found.networks:
        raise InputError("with random weights the model does not run in both modes, or its outputs are not finite")
    if not found.removed:
        reasons = "; ".join(found.frozen) or "it has no channels that an operation with a rule makes"
        raise InputError(f"nothing was cut, so nothing is proved: {reasons}")
    return found


def fuzz(*operations: str, networks: int = 100, seed: int = 0) -> Findings:
    """Check random networks in which these operations occur again and again, among all others, each with a random cut.

    An operation is registered under the name of a function by `prunetune.testing.fuzzer.layer`, if the function makes a
    module, or by `function`, if it computes something of tensors. Without names it is any operations.

    Raises
    ------
    AssertionError
        A cut is wrong; the notes of the error have the network as a program that can be run again. Or an operation of
        these has no rule.
    InputError
        An operation is not known, or fits into none of the networks.
    """
    for name in operations:
        if name not in OPERATIONS:
            raise unknown_name("operation", name, OPERATIONS)
    found = Findings()
    for number in range(seed, seed + networks):
        program = draw(Random(number), operations)
        try:
            found.add(check(program, number, flops=not operations))
        except Exception as error:
            error.add_note(f"Found by check(program, {number}) with program = {program!r}")
            raise
    if missing := [name for name in operations if not found.operations[name]]:
        raise InputError(f"no network of {networks} has {missing[0]}: does it run on what it says that it takes?")
    if without := [text for text in found.frozen if NO_RULE in text]:
        raise AssertionError(without[0])
    return found


def check(program: Program, seed: int, *, flops: bool = True) -> Findings:
    """Cut random units of the program's network. Raises WrongCutError, or whatever the engine should not raise."""
    torch.manual_seed(seed)
    model, inputs = randomise(Network(program), seed), example_inputs(program, seed)
    flops = flops and "einsum" not in str(program)  # torch counts it by its sizes
    found = check_cut(model, inputs, seed, flops=flops)
    found.operations.update({step.operation for step in program.steps})
    return found


def check_cut(
    model: nn.Module, inputs: ExampleInputs, seed: int, *, flops: bool = False, tolerance: float = TOLERANCE
) -> Findings:
    """Cut random units of the model, and check all that must hold of the smaller one."""
    if not _runs(model, inputs):
        return Findings(discarded=1)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    graph = DependencyGraph.of(model, inputs)
    keep = draw_mask(graph, Random(seed))
    plan = PruningPlan.of(graph, keep)
    smaller = apply(plan, model)
    try:
        compare(model, smaller, plan, inputs, tolerance)
        _train(smaller, inputs)
    except ValueError as error:
        if "Expected more than 1" not in str(error):
            raise
        return Findings(discarded=1)  # torch normalises no single value, and one is what the cut has left
    smaller.eval()
    _check_costs(graph, plan, smaller, inputs, flops=flops)
    if PruningPlan.from_json(plan.to_json()) != plan:
        raise WrongCutError("the plan is another one after it was saved")
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]) and not bool((value != value).all()):
            raise WrongCutError(f"{name} of the user's model has changed")
    if any(not f.node or not f.reason for f in graph.frozen):
        raise WrongCutError("something is frozen and nobody says by what")
    frozen = Counter({f"{f.node.partition(' in ')[0]}: {f.reason}" for f in graph.frozen})
    removed = int((~keep).sum())
    return Findings(networks=1, cut=int(bool(plan.tensors)), units=graph.unit_count, removed=removed, frozen=frozen)


def draw_mask(graph: DependencyGraph, random: Random) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """At least one unit of every group; sometimes one only, sometimes all but one."""
    keep = np.zeros(graph.unit_count + 1, dtype=bool)
    keep[0] = True
    for group in graph.groups:
        n = len(group)
        count = random.choice((1, max(1, n - 1), random.randint(1, n), max(1, n // 2), n))
        keep[random.sample(group.units, count)] = True
    return keep


def compare(
    model: nn.Module, smaller: nn.Module, plan: PruningPlan, inputs: ExampleInputs, tolerance: float = TOLERANCE
) -> None:
    """The cut network's outputs, in evaluation mode, against the oracle's."""
    assert_equal(presence.expected(model.eval(), plan, inputs), outputs(smaller.eval(), inputs), tolerance)


def _runs(model: nn.Module, inputs: ExampleInputs) -> bool:
    """Whether the network runs before it is cut, in both modes, with finite outputs."""
    args, kwargs = call_arguments(inputs)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    try:
        with torch.no_grad():
            made = [model.train(mode)(*args, **kwargs) for mode in (True, False)]
    except (RuntimeError, ValueError):
        return False
    finally:
        model.load_state_dict(state)
        model.eval()
    return all(bool(t.isfinite().all()) for t in pytree.tree_leaves(made) if isinstance(t, Tensor))


def _check_costs(
    graph: DependencyGraph, plan: PruningPlan, smaller: nn.Module, inputs: ExampleInputs, *, flops: bool
) -> None:
    predicted = cost(graph, plan)
    parameters = sum(p.numel() for p in smaller.parameters())
    if predicted.parameters != parameters:
        raise WrongCutError(f"{predicted.parameters} parameters were predicted, there are {parameters}")
    # With gradients, since torch's fast path of attention is not counted; and written out, since not all versions of
    # torch count the kernel that the CPU has for it.
    args, kwargs = call_arguments(inputs)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        smaller(*args, **kwargs)
    if flops and predicted.flops != counter.get_total_flops():
        raise WrongCutError(f"{predicted.flops} FLOPs were predicted, there are {counter.get_total_flops()}")


def _train(smaller: nn.Module, inputs: ExampleInputs) -> None:
    """A step forward and backward in training mode must run."""
    args, kwargs = call_arguments(inputs)
    made = [t for t in pytree.tree_leaves(smaller.train()(*args, **kwargs)) if isinstance(t, Tensor)]
    loss = torch.stack([t.abs().square().mean() for t in made]).sum()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
