"""Drawing random programs, and the check that a random cut of one must pass."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import fuzz_attention  # noqa: F401  registers its operations, as the next seven
import fuzz_blocks  # noqa: F401
import fuzz_computed  # noqa: F401
import fuzz_functions  # noqa: F401
import fuzz_indices  # noqa: F401
import fuzz_layers  # noqa: F401
import fuzz_numbers  # noqa: F401
import fuzz_recurrent  # noqa: F401
import fuzz_shapes  # noqa: F401
import numpy as np
import presence
import torch
from fuzz import (
    LARGEST,
    OPERATIONS,
    WIDEST,
    Dice,
    Network,
    Options,
    Program,
    Step,
    Value,
    build,
    example_inputs,
    results_of,
)
from oracle import randomise
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from prunetune.engine import DependencyGraph, PruningPlan, apply, cost

TOLERANCE = 1e-9
LAYOUTS = {
    "image": ((2, 3, 4, 4), (2, 2, 3, 4), (2, 4, 2, 2)),
    "sequence": ((2, 4, 3), (2, 3, 4)),
    "line": ((2, 3, 6),),
    "volume": ((2, 2, 2, 2, 3),),
    "last": ((2, 4, 4, 3),),
    "vector": ((2, 5),),
    "index": ((2, 4),),
}
OFTEN = ("image", "image", "image", "sequence", "sequence", "line", "volume", "last", "vector", "index")


class WrongCutError(AssertionError):
    """What the cut network computes is not what the oracle says."""


@dataclass
class Findings:
    """What one network or many have shown."""

    networks: int = 0
    discarded: int = 0
    """Programs that do not run themselves, as a batch norm over one value in training mode."""
    cut: int = 0
    units: int = 0
    removed: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    frozen: Counter[str] = field(default_factory=Counter)

    def add(self, other: Findings) -> None:
        for name in ("networks", "discarded", "cut", "units", "removed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.operations += other.operations
        self.frozen += other.frozen


# -- programs ----------------------------------------------------------------------------------------------------------


def draw(random: Random) -> Program:
    """A program of about 3 to 25 steps."""
    maker = _Maker(random)
    for _ in range(maker.dice.one_of([1, 1, 1, 2])):
        maker.input()
    for _ in range(maker.dice.one_of(range(2, 20))):
        maker.step()
    return maker.finish()


class _Maker:
    def __init__(self, random: Random) -> None:
        self.dice = Dice(random, [])
        self.inputs: list[Value] = []
        self.known: dict[str, Value] = {}
        self.modules: dict[str, nn.Module] = {}

    def input(self) -> None:
        layout = self.dice.one_of(OFTEN)
        value = Value(f"x{len(self.known)}", self.dice.one_of(LAYOUTS[layout]), layout)
        self.inputs.append(value)
        self._add([value])
        first = {"index": "embedding", "image": "conv", "line": "conv", "volume": "conv"}.get(layout, "linear")
        self._try(first, value)

    def _add(self, values: list[Value]) -> None:
        self.known.update({v.name: v for v in values})
        self.dice.pool.extend(values)

    def step(self) -> None:
        """One more operation; a few tries, as not all operations work on what there is."""
        dice = self.dice
        for _ in range(20):
            with_weights = dice.chance(0.4)
            names = [n for n, o in OPERATIONS.items() if o.has_weights == with_weights]
            name = dice.one_of(names)
            candidates = [v for v in dice.pool if v.layout in OPERATIONS[name].takes]
            if candidates and self._try(name, dice.value(candidates)):
                return

    def _try(self, name: str, x: Value) -> bool:
        """Whether a step of this operation, on `x` and random partners, could be added."""
        dice, operation = self.dice, OPERATIONS[name]
        values = [x]
        if operation.partner is not None:
            fitting = [v for v in dice.pool if operation.partner(x, v)]
            if not fitting:
                return False
            values += [dice.one_of(fitting) for _ in range(dice.one_of(operation.partners))]
        options = operation.draw(dice, *values)
        return options is not None and self._append(name, values, options)

    def _append(self, name: str, values: list[Value], options: Options) -> bool:
        """Whether this step runs and makes nothing too large; it belongs to the program then."""
        step = Step((), name, tuple(v.name for v in values), options)
        module = build(step, values, self.modules)
        try:
            results = results_of(step, values, module, self.known)
        except (RuntimeError, ValueError, IndexError):
            return False  # a window larger than the image, for example
        if any(math.prod(r.shape[1:]) > LARGEST or r.channels > WIDEST for r in results):
            return False
        names = tuple(f"x{len(self.known) + i}" for i in range(len(results)))
        named = [Value(n, r.shape, r.layout) for n, r in zip(names, results, strict=True)]
        self.dice.steps.append(Step(names, name, step.inputs, options))
        self.modules[names[0]] = module
        self._add(named)
        return True

    def finish(self) -> Program:
        """One or two outputs that all loose ends meet in: what is computed in vain could hide a wrong cut."""
        dice, ends = self.dice, self.dice.loose()
        outputs = [dice.one_of(ends)] if dice.chance(0.25) else []
        read = [v for v in ends if v not in outputs]
        first = len(read) // 2 if not outputs and dice.chance(0.25) else 0
        for part in (read[:first], read[first:]):
            if part:
                options = {"kind": dice.one_of(["mean", "sum", "amax", "flatten"]), "out": dice.one_of([2, 3, 5])}
                assert self._append("readout", part, options)
                outputs.append(dice.pool[-1])
        return Program(tuple(self.inputs), tuple(dice.steps), tuple(v.name for v in outputs))


# -- the check ---------------------------------------------------------------------------------------------------------


def check(program: Program, seed: int) -> Findings:
    """Cut random units of the program's network. Raises WrongCutError, or whatever the engine should not raise."""
    torch.manual_seed(seed)
    random = Random(seed)
    model = randomise(Network(program), seed)
    inputs = example_inputs(program, seed)
    findings = Findings(operations=Counter({step.operation for step in program.steps}))
    if not _runs(model, inputs):
        findings.discarded = 1
        return findings
    before = {name: t.clone() for name, t in model.state_dict().items()}
    graph = DependencyGraph.of(model, inputs)
    keep = draw_mask(graph, random)
    plan = PruningPlan.of(graph, keep)
    smaller = apply(plan, model)
    try:
        compare(model, smaller, plan, inputs)
        _train(smaller, inputs)
    except ValueError as error:
        if "Expected more than 1" not in str(error):
            raise
        findings.discarded = 1  # torch normalises no single value, and one is what the cut has left
        return findings
    smaller.eval()
    _check_costs(graph, plan, smaller, inputs, flops="einsum" not in str(program))  # torch counts it by its sizes
    if PruningPlan.from_json(plan.to_json()) != plan:
        raise WrongCutError("the plan is another one after it was saved")
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]) and not bool((value != value).all()):
            raise WrongCutError(f"{name} of the user's model has changed")
    if any(not f.node or not f.reason for f in graph.frozen):
        raise WrongCutError("something is frozen and nobody says by what")
    findings.networks = 1
    findings.cut = int(bool(plan.tensors))
    findings.units, findings.removed = graph.unit_count, int((~keep).sum())
    findings.frozen = Counter({f"{f.node.partition(' in ')[0]}: {f.reason}" for f in graph.frozen})
    return findings


def draw_mask(graph: DependencyGraph, random: Random) -> np.ndarray:
    """At least one unit of every group; sometimes one only, sometimes all but one."""
    keep = np.zeros(graph.unit_count + 1, dtype=bool)
    keep[0] = True
    for group in graph.groups:
        n = len(group)
        count = random.choice((1, max(1, n - 1), random.randint(1, n), max(1, n // 2), n))
        keep[random.sample(group.units, count)] = True
    return keep


def compare(model: nn.Module, smaller: nn.Module, plan: PruningPlan, inputs: tuple[Tensor, ...]) -> None:
    """The cut network's outputs, in evaluation mode, against the oracle's."""
    expected = presence.expected(model.eval(), plan, inputs)
    with torch.no_grad():
        actual = [t for t in pytree.tree_leaves(smaller.eval()(*inputs)) if isinstance(t, Tensor)]
    for e, a in zip(expected, actual, strict=True):
        if e.shape != a.shape:
            raise WrongCutError(f"an output has shape {tuple(a.shape)}, it should be {tuple(e.shape)}")
        error = float((e - a).abs().max() / e.abs().max().clamp(min=1e-5))
        if not error < TOLERANCE and bool(e.isfinite().all()):
            raise WrongCutError(f"an output is wrong by {error:.1e} of its largest value")


def _runs(model: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the network runs before it is cut, in both modes, with finite outputs."""
    state = {name: t.clone() for name, t in model.state_dict().items()}
    try:
        with torch.no_grad():
            outputs = [*pytree.tree_leaves(model.train()(*inputs)), *pytree.tree_leaves(model.eval()(*inputs))]
    except (RuntimeError, ValueError):
        return False
    finally:
        model.load_state_dict(state)
        model.eval()
    return all(bool(t.isfinite().all()) for t in outputs)


def _check_costs(
    graph: DependencyGraph, plan: PruningPlan, smaller: nn.Module, inputs: tuple[Tensor, ...], *, flops: bool
) -> None:
    predicted = cost(graph, plan)
    parameters = sum(p.numel() for p in smaller.parameters())
    if predicted.parameters != parameters:
        raise WrongCutError(f"{predicted.parameters} parameters were predicted, there are {parameters}")
    # With gradients, since torch's fast path of attention is not counted; and written out, since not all versions of
    # torch count the kernel that the CPU has for it.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        smaller(*inputs)
    if flops and predicted.flops != counter.get_total_flops():
        raise WrongCutError(f"{predicted.flops} FLOPs were predicted, there are {counter.get_total_flops()}")


def _train(smaller: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A step forward and backward in training mode must run."""
    outputs = [t for t in pytree.tree_leaves(smaller.train()(*inputs)) if isinstance(t, Tensor)]
    loss = torch.stack([t.square().mean() for t in outputs]).sum()
    if loss.requires_grad:
        loss.backward()
